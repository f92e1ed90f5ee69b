"""A rented machine in `status`: what it costs, and how far it is while no node is on it yet. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from llmhost.core.gpu import GpuFigures
from llmhost.core.rentals import Rental
from llmhost.fleet.rented import bill

# How far a boot is (fleet.rented.phases) to the contract's enumeration of node states.
_PHASES = {"booting": "booting", "ssh": "booting", "ollama": "installing", "model": "loading", "proxy": "installing"}
_WAITING = {
    "intent": "it is being rented",
    "unknown": "nobody knows yet whether it was rented",
    "destroying": "its end is not verified yet",
}
ABANDONED = "its up was interrupted; it is ended soon"


def money_of(rental: Rental | None, now: datetime) -> dict[str, Any]:
    """`instance_id`, price and spend, and for how long it is rented (`uptime_s`); of a machine of one's own nothing and zero.

    What is over has a bill, and neither a number nor a price: a number here is one that bills.
    """
    if rental is None:
        return {"instance_id": None, "price_usd_per_hour": 0.0, "spent_usd": 0.0}
    there = rental.is_open
    return {
        "instance_id": str(rental.instance_id) if there and rental.instance_id is not None else None,
        "price_usd_per_hour": round(bill.price(rental), 6) if there else 0.0,
        "spent_usd": round(bill.spent(rental, now), 6),
        "uptime_s": round(bill.hours(rental, now) * bill.HOUR_S, 1),
    }


def rental_view(rental: Rental, now: datetime, *, at_work: bool) -> dict[str, Any]:
    """A machine without a node, in the shape of a node."""
    unknown = dict.fromkeys(("ssh", "ollama", "model", "proxy"), "unknown")
    return {
        "id": rental.node_id,
        "provider": rental.provider,
        "host": None,
        **money_of(rental, now),
        "state": boot_state(rental),
        "model": None,
        "context": None,
        "backend": None,
        "health": unknown,
        **dict.fromkeys(GpuFigures.__slots__),
        "gpu": rental.gpu,
        "tokens_per_second": None,
        "in_flight": None,
        "tunnel": None,
        "restarts": None,
        "reason": boot_reason(rental, at_work=at_work),
    }


def gone_reason(rental: Rental) -> str:
    """Why a node whose machine is gone does not serve."""
    return f"its machine is gone: {rental.why}" if rental.why else "its machine is gone"


def boot_state(rental: Rental) -> str:
    """One of the contract's node states, for a machine that does not serve."""
    if rental.state in ("intent", "unknown"):
        return "renting"
    if rental.state == "destroying":
        return "destroying"
    return _PHASES.get(rental.phase or "booting", "installing")


def boot_reason(rental: Rental, *, at_work: bool) -> str:
    """What it is at, or what it waits for."""
    if rental.state in _WAITING:
        return _WAITING[rental.state]
    return rental.detail or "it is booting" if at_work else ABANDONED
