"""`status`: the contract's picture of the fleet. Never waits for the network, never starts or changes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llmhost
from llmhost.core.errors import LlmhostError
from llmhost.core.paths import Paths
from llmhost.core.result import Result
from llmhost.fleet.advice import advice
from llmhost.fleet.desired import GATEWAY
from llmhost.fleet.money_advice import money_advice
from llmhost.fleet.observed import Observed, observe, observe_damaged
from llmhost.fleet.rented.inventory_view import age_s, orphans
from llmhost.fleet.rented.refreshed import Refreshed
from llmhost.fleet.status_node import node_view
from llmhost.fleet.status_rental import rental_view
from llmhost.fleet.turn import is_taken

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

_GATEWAY_STATES = {"starting": "starting", "up": "up", "stopping": "down"}
# Of a ledger; `ledger_newer` is one that a newer llmhost can show.
UNREADABLE = ("ledger_corrupt", "state_unwritable", "state_unreadable")
_NO_CACHE = {"store": None, "state": "off", "hit_ratio": None, "entries": None, "memory_bytes": None}
_NO_COUNTS = {"hits": None, "misses": None, "bypass": None}


def status(settings: Settings, paths: Paths, fleet: str, refresh: bool = False) -> Result:
    """The contract's `data`, and `supervisor`. `refresh` asks the market first, where there is an account; what comes of that is a warning,
    and the inventory keeps its age. A ledger that cannot be read is an error beside what is known without it: what runs, and with
    `refresh` what the market lists. Raises LlmhostError.
    """
    refreshed = Refreshed()
    if refresh:
        from llmhost.fleet.rented.refresh import refresh_inventory

        refreshed = refresh_inventory(settings, paths)
    seen, damage = _seen(paths, fleet)
    seen.books = refreshed.books or seen.books
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
    data["advice"] = [*money_advice(fleet, data, seen), *advice(data, seen.nodes)]
    result = Result(data, warnings=refreshed.warnings)
    if damage is not None:
        result.errors.append(damage.as_dict())
        result.exit_code = damage.exit_code
    return result


def _seen(paths: Paths, fleet: str) -> tuple[Observed, LlmhostError | None]:
    """What there is to see, and why the ledger could not be read."""
    try:
        return observe(paths, fleet), None
    except LlmhostError as damage:
        if damage.code not in UNREADABLE:
            raise
        return observe_damaged(paths), damage


def _fleet(fleet: str, seen: Observed) -> dict[str, Any]:
    """Machines of one's own cost nothing; what is rented does, with a node on it or without."""
    books = seen.books
    standing, inventory = books.standing(fleet), books.inventory
    bare = books.without_node(fleet, seen.nodes)
    nodes = [node_view(node, seen) for node in seen.nodes]
    nodes += [rental_view(rental, books.now, at_work=seen.at_work) for rental in bare]
    return {
        "name": fleet,
        "price_usd_per_hour": round(standing.usd_per_hour, 6),
        "spent_usd": round(standing.spent_usd, 6),
        "budget_usd": standing.budget_usd,
        "lease_ends_at": standing.terms.lease_ends_at if standing.terms and standing.open else None,
        "idle_since": books.idle_since.get(fleet),
        "inventory_age_s": age_s(inventory, books.now),
        "credit_usd": inventory.credit_usd,
        "nodes": nodes,
        "orphans": orphans(inventory, books.rentals, books.installation),
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
