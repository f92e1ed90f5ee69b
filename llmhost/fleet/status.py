"""`status`: the contract's picture of the fleet. Never waits for the network, never starts or changes anything."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import llmhost
from llmhost.core.gpu import GpuFigures
from llmhost.core.ledger import NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.result import Result
from llmhost.fleet.advice import advice
from llmhost.fleet.desired import GATEWAY, child_name
from llmhost.fleet.observed import Observed, observe

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# What a child of the supervisor is to the contract's enumeration of node states, before its own word is heard.
_NODE_STATES = {
    "starting": "loading",
    "up": "ready",
    "degraded": "unreachable",
    "restarting": "degraded",
    "failed": "failed",
    "stopping": "draining",
}
_PROXY_HEALTH = {"starting": "starting", "up": "ok", "stopping": "ok"}
_GATEWAY_STATES = {"starting": "starting", "up": "up", "stopping": "down"}
_NO_CACHE = {"store": None, "state": "off", "hit_ratio": None, "entries": None, "memory_bytes": None}
_NO_COUNTS = {"hits": None, "misses": None, "bypass": None}


def status(settings: Settings, paths: Paths, fleet: str, refresh: bool = False) -> Result:
    """The contract's `data`, and `supervisor`. `refresh` asks providers first; nothing of a local fleet is anywhere else to be asked for.

    Raises LlmhostError when the ledger cannot be read.
    """
    seen = observe(paths, fleet)
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
    nodes = [_node(node, seen) for node in seen.nodes]
    return {
        "name": fleet,
        "price_usd_per_hour": 0.0,  # nothing on this machine bills
        "spent_usd": 0.0,
        "budget_usd": None,
        "lease_ends_at": None,
        "inventory_age_s": None,
        "nodes": nodes,
        "orphans": [],
    }


def _node(node: NodeRecord, seen: Observed) -> dict[str, Any]:
    child = seen.children.get(child_name(node.id))
    reading = (child or {}).get("reading") or {}
    model = reading.get("model") or {}
    return {
        "id": node.id,
        "provider": node.provider,
        "instance_id": None,
        "state": _node_state(child, reading, seen),
        "model": model.get("id") or node.model,
        "context": model.get("context") or node.context,
        "backend": node.backend,
        "health": _health(node, child, reading, seen),
        "price_usd_per_hour": 0.0,
        "uptime_s": _uptime(child),
        "spent_usd": 0.0,
        **_gpu(seen),
        "tokens_per_second": (reading.get("requests") or {}).get("tokens_per_second"),
        "in_flight": (reading.get("requests") or {}).get("in_flight"),
        "tunnel": None,
        "restarts": child["restarts"] if child else None,
        "reason": _reason(child, reading, seen),
    }


def _node_state(child: dict[str, Any] | None, reading: dict[str, Any], seen: Observed) -> str:
    if child is None:
        return "unreachable" if seen.supervisor == "silent" else "failed"
    state = _NODE_STATES[child["state"]]
    if state != "ready" or reading.get("ready"):
        return state
    return "degraded" if (reading.get("backend") or {}).get("state") == "failed" else "loading"


def _health(
    node: NodeRecord, child: dict[str, Any] | None, reading: dict[str, Any], seen: Observed
) -> dict[str, str | None]:
    lost = "unknown" if seen.supervisor == "silent" else "failed"
    components = (reading.get("backend") or {}).get("components") or {}
    return {
        "ssh": None,
        "ollama": components.get("ollama", "unknown") if node.backend == "ollama" else None,
        "model": _model_health(reading),
        "proxy": _PROXY_HEALTH.get(child["state"], "failed") if child else lost,
    }


def _model_health(reading: dict[str, Any]) -> str:
    if not reading:
        return "unknown"
    if reading.get("ready"):
        return "ok"
    return "failed" if (reading.get("backend") or {}).get("state") == "failed" else "starting"


def _reason(child: dict[str, Any] | None, reading: dict[str, Any], seen: Observed) -> str | None:
    if child is None:
        return seen.why or "it is not running"
    if child["state"] == "up" and not reading.get("ready"):
        return (reading.get("backend") or {}).get("detail") or None
    reason: str | None = child["reason"]
    return reason


def _uptime(child: dict[str, Any] | None) -> float | None:
    if not child or not child["pid"] or not child["since"]:
        return None
    return round((datetime.now(UTC) - datetime.fromisoformat(child["since"])).total_seconds(), 1)


def _gpu(seen: Observed) -> dict[str, Any]:
    return seen.gpu or dict.fromkeys(GpuFigures.__slots__)


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
        "idle": seen.supervisor == "running" and not seen.children,
    }
