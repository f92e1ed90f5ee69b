"""How long to wait before a crashed child is started again."""

from __future__ import annotations

from dataclasses import dataclass

# Beyond any cap, and far from what a float can hold: a child may crash for days.
_MAX_DOUBLINGS = 64


@dataclass(slots=True)
class BackOff:
    """Seconds: `first`, doubled each time, at most `cap`; a run of at least `reset_after` starts the count anew.

    After `hopeless_after` short runs in a row the child counts as failed, though it is still tried at the cap.
    """

    first: float = 0.25
    cap: float = 30.0
    reset_after: float = 60.0
    hopeless_after: int = 5
    failures: int = 0

    def next_delay(self, uptime_s: float) -> float:
        """The wait after a run that lasted `uptime_s`."""
        self.failures = 1 if uptime_s >= self.reset_after else self.failures + 1
        return min(self.cap, self.first * 2.0 ** min(self.failures - 1, _MAX_DOUBLINGS))

    @property
    def hopeless(self) -> bool:
        return self.failures >= self.hopeless_after
