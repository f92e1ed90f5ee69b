"""Since when a fleet has had no request, from what the gateway counts: at its nodes, and those that it answered itself. Pure.

The gateway counts from its own start on, and a node anew when it comes back: a count that is lower than before is a new one, and what it
has counted already happened since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from llmhost.core.rentals import Rental
from llmhost.fleet.rented.bill import moment

# Among the counts of nodes: that of the gateway's own requests. No node is called so.
OWN = "gateway"


@dataclass(frozen=True, slots=True)
class Activity:
    """What is remembered of a fleet: when a request was seen last (RFC 3339, None = never), and the counts at the last look."""

    at: str | None = None
    counts: dict[str, int] = field(default_factory=dict)


def looked(
    before: Activity,
    readings: Iterable[Mapping[str, Any]],
    ids: set[str],
    now: datetime,
    requests: Mapping[str, Any] | None = None,
) -> Activity:
    """The memory after another look. `readings` are the gateway's of its nodes; without one nothing can have been asked.

    `requests` are the gateway's own (`total`, `in_flight`), which the cache may have answered.
    """
    ours = {str(one["id"]): one for one in readings if one.get("id") in ids}
    counts = {id: sum((one.get("requests") or {}).values()) for id, one in ours.items()}
    own = requests or {} if ours else {}
    if own.get("total") is not None:
        counts[OWN] = own["total"]
    busy = any(one.get("in_flight") for one in (*ours.values(), own))
    asked = any(_rose(before.counts.get(id), count) for id, count in counts.items())
    at = now.isoformat(timespec="seconds") if busy or asked else before.at
    # a node that is not seen now keeps its count, so that its coming back is no request
    return Activity(at, {**{id: count for id, count in before.counts.items() if id in ids or id == OWN}, **counts})


def used(activity: Activity, moments: Iterable[datetime]) -> Activity:
    """The same when it was in use at these moments, too."""
    known = [*moments, *([moment(activity.at)] if activity.at else [])]
    return replace(activity, at=max(known).isoformat(timespec="seconds")) if known else activity


def idle_since(activity: Activity, rentals: Iterable[Rental]) -> datetime | None:
    """None = it is not idle: nothing of it can be asked yet. The last request, or the moment its last machine became ready."""
    open_ones = [rental for rental in rentals if rental.is_open and rental.state != "destroying"]
    if not open_ones or any(rental.state != "ready" for rental in open_ones):
        return None
    moments = [moment(rental.ready_at or rental.created_at) for rental in open_ones]
    return max([*moments, *([moment(activity.at)] if activity.at else [])])


def _rose(before: int | None, now: int) -> bool:
    """Whether it was asked since. What is seen for the first time has been asked at some time, if it has been asked at all."""
    return now > 0 and (before is None or now != before)
