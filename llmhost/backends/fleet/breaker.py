"""A circuit breaker: a node that fails again and again is left alone for a while, then tried with one request.

It knows no clock: `now` and `began` are seconds of any monotonic one.
"""

from __future__ import annotations

from typing import Literal

BreakerState = Literal["closed", "open", "half_open"]
FAILURES = 3
PAUSE_S = 5.0
LONGEST_PAUSE_S = 60.0


class Breaker:
    """Closed (all may pass) → open after `failures` in a row → half-open after a pause: one trial decides.

    Each failed trial doubles the pause, up to `LONGEST_PAUSE_S`.
    """

    def __init__(self, failures: int = FAILURES, pause_s: float = PAUSE_S) -> None:
        self._limit = failures
        self._first_pause = self._pause = pause_s
        self._failed = 0
        self._last_failure = float("-inf")
        self._open_until: float | None = None
        self._trial_began: float | None = None

    def state(self, now: float) -> BreakerState:
        if self._open_until is None:
            return "closed"
        return "open" if now < self._open_until else "half_open"

    def allows(self, now: float) -> bool:
        """Whether a request may go there: always when closed, one at a time when half-open."""
        state = self.state(now)
        return state == "closed" or (state == "half_open" and self._trial_began is None)

    def begin(self, now: float) -> None:
        """A request goes there; in the half-open state it is the trial."""
        if self.state(now) == "half_open":
            self._trial_began = now

    def succeeded(self) -> None:
        """The node answered, be it that the request was wrong."""
        self._failed, self._open_until, self._trial_began = 0, None, None
        self._pause = self._first_pause

    def abandoned(self, began: float) -> None:
        """A request begun at `began` ended without telling anything of the node: its client left."""
        if self._trial_began == began:
            self._trial_began = None

    def failed(self, began: float, now: float) -> None:
        """A request begun at `began` found the node broken.

        Twenty requests that break together on one fault are one failure: only those begun after the last one count.
        """
        if began < self._last_failure:
            self.abandoned(began)
            return
        self._last_failure = now
        self._failed += 1
        if self._trial_began is not None:
            self._pause = min(2 * self._pause, LONGEST_PAUSE_S)
        elif self._failed < self._limit:
            return
        self._open_until = now + self._pause
        self._trial_began = None
