"""How often each call may be made.

The thresholds are those of vast facts §1.5: so many seconds between two calls of one endpoint by one identity (key and address). After a
refusal of an endpoint with a penalty nothing is let through for that long. Searching counts calls per minute and, when set, per UTC day.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from tests.support.marketplace.answers import TEXT, Answer, error
from tests.support.marketplace.clock import Clock

THRESHOLDS = {
    "create": 4.5,
    "list": 1.0,
    "show": 2.0,
    "manage": 1.0,
    "reboot": 1.0,
    "recycle": 1.0,
    "destroy": 3.0,
    "bulk_state": 2.0,
    "bid": 5.5,
    "command": 1.5,
    "ssh_keys": 1.0,
    "ssh_key_create": 1.0,
    "ssh_key_update": 1.0,
    "ssh_key_delete": 1.0,
    "charges": 1.0,
    "invoices": 3.0,
    "deposit": 3.0,
    "secrets": 3.0,
    "secret_create": 5.0,
    "secret_update": 5.0,
    "secret_delete": 5.0,
    "api_key_create": 2.0,
}
PENALTIES = {"create": 12.0}
SEARCHES_PER_MINUTE = 10
DAY = 86_400.0


@dataclass
class _Gate:
    """When the next call is let through, and when the last ones were."""

    open_at: float = 0.0
    recent: deque[float] | None = None


class Limits:
    """On unless told otherwise. `factor` stretches or shrinks every interval, for tests that pace by the same factor."""

    def __init__(
        self, clock: Clock, *, on: bool = True, factor: float = 1.0, searches_per_day: int | None = None
    ) -> None:
        self.clock, self.on, self.factor = clock, on, factor
        self.searches_per_day = searches_per_day
        self.retry_after = False
        self.shape = ""
        self.reset()

    def reset(self) -> None:
        self._gates: dict[tuple[str, str], _Gate] = {}
        self._today: dict[tuple[str, int], int] = {}
        self.refused = 0

    def check(self, endpoint: str, identity: str) -> Answer | None:
        """The refusal of a call that comes too soon; None lets it through and counts it."""
        if not self.on:
            return None
        gate = self._gates.setdefault((endpoint, identity), _Gate())
        refusal = self._search(gate, identity) if endpoint == "search" else self._paced(gate, endpoint)
        self.refused += refusal is not None
        return refusal

    def _paced(self, gate: _Gate, endpoint: str) -> Answer | None:
        now, threshold = self.clock.now(), THRESHOLDS.get(endpoint, 0.0)
        if now >= gate.open_at:
            gate.open_at = now + threshold * self.factor
            return None
        gate.open_at = max(gate.open_at, now + PENALTIES.get(endpoint, 0.0) * self.factor)
        shape = self.shape or ("error" if endpoint == "destroy" else "detail")
        return too_frequent(threshold, shape, gate.open_at - now if self.retry_after else None)

    def _search(self, gate: _Gate, identity: str) -> Answer | None:
        now, recent = self.clock.now(), gate.recent if gate.recent is not None else deque()
        gate.recent = recent
        while recent and recent[0] <= now - 60.0 * self.factor:
            recent.popleft()
        if len(recent) >= SEARCHES_PER_MINUTE:
            wait = recent[0] + 60.0 * self.factor - now
            return too_frequent(6.0, self.shape or "text", wait if self.retry_after else None)
        if self._quota_used_up(identity, now):
            return quota_exceeded(now)
        recent.append(now)
        return None

    def _quota_used_up(self, identity: str, now: float) -> bool:
        day = (identity, int(now // DAY))
        if self.searches_per_day is not None and self._today.get(day, 0) >= self.searches_per_day:
            return True
        self._today[day] = self._today.get(day, 0) + 1
        return False


def too_frequent(threshold: float, shape: str = "detail", retry_after: float | None = None) -> Answer:
    """429 in one of the three shapes seen: `text`, `detail`, `error`."""
    headers = {} if retry_after is None else {"Retry-After": f"{retry_after:.0f}"}
    if shape == "text":
        text = f"API requests too frequent: endpoint threshold={threshold}"
        return Answer(429, raw=text.encode(), content_type=TEXT, headers=headers)
    msg = f"API requests too frequent endpoint threshold={threshold}"
    if shape == "error":
        return error(429, "rate_limit_exceeded", msg).but(headers=headers)
    return Answer(429, {"detail": msg}, headers=headers)


def quota_exceeded(now: float) -> Answer:
    """The day's searches are used up; they come back at midnight UTC."""
    reset = str(int((now // DAY + 1) * DAY))
    answer = error(429, "search_quota_exceeded", "Daily search quota exceeded. Resets at midnight UTC.")
    return answer.but(headers={"X-RateLimit-Reset": reset})
