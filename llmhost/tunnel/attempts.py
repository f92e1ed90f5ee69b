"""When to try the next login."""

from __future__ import annotations

import random
from collections.abc import Callable

from llmhost.tunnel.spec import LinkTiming

_LEAST_SHARE = 0.75  # jitter only shortens, so that a cap is a cap
_MAX_DOUBLINGS = 32


def _spread(delay_s: float) -> float:
    return delay_s * random.uniform(_LEAST_SHARE, 1.0)


class Attempts:
    """Counts failures in a row; all times are monotonic seconds.

    The first try after a loss is at once, then `backoff_first` doubled each time, at most `backoff_wanted` while somebody waits or in the
    first `settled_after` seconds of the trouble, else `backoff_idle`. Never two tries within `login_every`.
    """

    def __init__(self, timing: LinkTiming, spread: Callable[[float], float] = _spread) -> None:
        self._timing = timing
        self._spread = spread
        self._began_at: float | None = None
        self._up_at: float | None = None
        self._trouble_at: float | None = None
        self._waits = 0
        self.failures = 0
        self.next_at = 0.0

    def follow(self, timing: LinkTiming) -> None:
        """Other intervals from now on."""
        self._timing = timing

    def began(self, now: float) -> None:
        self._began_at = now

    def succeeded(self, now: float) -> None:
        self._up_at, self.failures, self._trouble_at = now, 0, None

    def failed(self, now: float, wanted: bool) -> None:
        """A try failed. `wanted` = somebody waits."""
        self.failures += 1
        self._wait(now, wanted)

    def lost(self, now: float, wanted: bool) -> None:
        """What was connected is not any more; a link that held for long starts the count anew."""
        if self._up_at is not None and now - self._up_at >= self._timing.settled_after:
            self._waits = 0
        self._wait(now, wanted)

    def at_once(self, now: float) -> None:
        """Somebody asked, or the machine woke: all that was learnt is void."""
        self._waits, self._trouble_at = 0, now
        self.next_at = self._not_before(now)

    def _wait(self, now: float, wanted: bool) -> None:
        self._trouble_at = now if self._trouble_at is None else self._trouble_at
        doubled = self._timing.backoff_first * 2.0 ** min(self._waits - 1, _MAX_DOUBLINGS) if self._waits else 0.0
        self._waits += 1
        self.next_at = self._not_before(now + self._spread(min(doubled, self._cap(now, wanted))))

    def _cap(self, now: float, wanted: bool) -> float:
        fresh = self._trouble_at is not None and now - self._trouble_at < self._timing.settled_after
        return self._timing.backoff_wanted if wanted or fresh else self._timing.backoff_idle

    def _not_before(self, when: float) -> float:
        return when if self._began_at is None else max(when, self._began_at + self._timing.login_every)
