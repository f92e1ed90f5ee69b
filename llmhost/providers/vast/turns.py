"""What is remembered of calls: until when an endpoint is closed, and when was searched. By the time of day, which processes share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

# The market counts 10 searches a minute; another computer with the same key may search too (vast facts §4.4).
SEARCHES = 8
# Far more than there are endpoints; a file with more is none of ours.
MOST_ENDPOINTS = 32


@dataclass(frozen=True, slots=True)
class Closed:
    """From when until when, in seconds since 1970."""

    since: float
    until: float


@dataclass(slots=True)
class Turns:
    """`searches` are the last ones, the oldest first."""

    closed: dict[str, Closed] = field(default_factory=dict)
    searches: list[float] = field(default_factory=list)

    def open_at(self, endpoint: str) -> float:
        found = self.closed.get(endpoint)
        return found.until if found else 0.0

    def close(self, endpoint: str, now: float, until: float) -> None:
        """Never for a shorter time than it already is."""
        self.closed[endpoint] = Closed(now, max(until, self.open_at(endpoint)))

    def searched(self, now: float) -> None:
        self.searches = [*self.searches, now][-SEARCHES:]

    def with_others(self, others: Turns) -> Turns:
        """Both together."""
        closed = dict(self.closed)
        for endpoint, other in others.closed.items():
            mine = closed.get(endpoint)
            closed[endpoint] = other if mine is None or other.until > mine.until else mine
        return Turns(closed, sorted({*self.searches, *others.searches})[-SEARCHES:])

    def believable(self, now: float, longest_s: float) -> Turns:
        """Without what is yet to come, as after the clock was set back, or would last for longer than `longest_s`."""
        closed = {
            endpoint: Closed(each.since, min(each.until, now + longest_s))
            for endpoint, each in self.closed.items()
            if each.since <= now < each.until
        }
        return Turns(closed, [each for each in self.searches if each <= now])

    def as_dict(self) -> dict[str, Any]:
        return {
            "closed": {endpoint: [each.since, each.until] for endpoint, each in self.closed.items()},
            "searches": self.searches,
        }


def turns_of(data: Any) -> Turns:
    """What `as_dict` made; what is not understood is left out."""
    fields = data if isinstance(data, dict) else {}
    closed, searches = fields.get("closed"), fields.get("searches")
    spans = list(closed.items())[:MOST_ENDPOINTS] if isinstance(closed, dict) else []
    return Turns(
        {name: Closed(*times) for name, span in spans if len(times := _times(span)) == 2},
        sorted(_times(searches))[-SEARCHES:],
    )


def _times(values: Any) -> list[float]:
    found: Iterable[Any] = values if isinstance(values, list) else ()
    return [float(each) for each in found if isinstance(each, float) and math.isfinite(each)]
