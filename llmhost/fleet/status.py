"""`status`: the contract's picture of the fleet. Never waits for the network, never starts or changes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llmhost
from llmhost.core.paths import Paths
from llmhost.core.result import Result
from llmhost.fleet.advice import advice
from llmhost.fleet.desired import GATEWAY
from llmhost.fleet.observed import Observed, observe
from llmhost.fleet.status_node import node_view
from llmhost.fleet.turn import is_taken

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

_GATEWAY_STATES = {"starting": "starting", "up": "up", "stopping": "down"}
_NO_CACHE = {"store": None, "state": "off", "hit_ratio": None, "entries": None, "memory_bytes": None}
_NO_COUNTS = {"hits": None, "misses": None, "bypass": None}


def status(settings: Settings, paths: Paths, fleet: str, refresh: bool = False) -> Result:
    """The contract's `data`, and `supervisor`. `refresh` asks providers first; none of this release knows more than the supervisor does.

    Raises LlmhostError when the ledger cannot be read.
    """
    seen = observe(paths, fleet)
    seen.at_work = is_taken(paths)
    gateway = seen.children.get(GATEWAY) if seen.nodes else None
    reading = (gateway or {}).get("reading") or {}
    data = {
        "fleet": _fleet(fleet, seen),
        "gateway": _gateway(gateway, reading, seen),
        "cache": _cache(reading),
        "prefix": reading.get("prefix") or {"prompt_tokens": None, "reused_tokens": None, "reuse_ratio": None},
        "requests": reading.get("requests")
        or dict.fromkeys(("total", "errors", "in_flight", "p50_ms", "p99_ms", "ttft_p50_ms")),
        "supervisor": _supervisor(seen),
    }
    data["advice"] = advice(data, seen.nodes)
    return Result(data)


def _fleet(fleet: str, seen: Observed) -> dict[str, Any]:
    nodes = [node_view(node, seen) for node in seen.nodes]
    return {
        "name": fleet,
        "price_usd_per_hour": 0.0,  # neither this machine nor one of the user's own bills
        "spent_usd": 0.0,
        "budget_usd": None,
        "lease_ends_at": None,
        "inventory_age_s": None,
        "nodes": nodes,
        "orphans": [],
    }


def _gateway(child: dict[str, Any] | None, reading: dict[str, Any], seen: Observed) -> dict[str, Any]:
    if child is None and seen.nodes and seen.gateway and seen.supervisor == "silent":
        return _gateway_unknown(seen.gateway.port)
    state = _GATEWAY_STATES.get(child["state"], "failed") if child else "down"
    model = reading.get("model") or {}
    return {
        "url": f"http://127.0.0.1:{child['port']}" if child and child["port"] else None,
        "state": state,
        "version": reading.get("version"),
        "model": model.get("id"),
        "context": model.get("context"),
        "restarts": child["restarts"] if child else None,
        "reason": child["reason"] if child else None,
    }


def _gateway_unknown(port: int) -> dict[str, Any]:
    """A supervisor that does not answer may well have a gateway that does: only the port is sure."""
    nothing = dict.fromkeys(("state", "version", "model", "context", "restarts"))
    reason = "not known, because the supervisor does not answer"
    return {"url": f"http://127.0.0.1:{port}", **nothing, "reason": reason}


def _cache(reading: dict[str, Any]) -> dict[str, Any]:
    nothing = {**_NO_CACHE, "exact": _NO_COUNTS, "semantic": _NO_COUNTS, "saved_tokens": None, "saved_seconds": None}
    return reading.get("cache") or nothing


def _supervisor(seen: Observed) -> dict[str, Any]:
    return {
        "state": seen.supervisor,
        "pid": seen.hello.get("pid"),
        "version": seen.hello.get("version"),
        "outdated": seen.hello.get("version") not in (None, llmhost.__version__),
        "reason": seen.why,
        "idle": seen.supervisor == "running" and not seen.children and not seen.links,
    }
