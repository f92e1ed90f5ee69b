"""Notices that the machine, or this process, was away."""

from __future__ import annotations

import time
from collections.abc import Callable


class WakeWatch:
    """Asked about once a second; a much longer gap means sleep.

    Both clocks are looked at: the monotonic one stands still while a machine sleeps, the wall clock does not, and both go on while only the
    process was stopped. A wall clock that is set looks the same, which costs one needless heartbeat.
    """

    def __init__(
        self,
        woke_after: float,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.woke_after = woke_after
        self._wall, self._monotonic = wall, monotonic
        self._before = (wall(), monotonic())

    def woke(self) -> bool:
        """Whether there was such a gap since the last call."""
        before, self._before = self._before, (self._wall(), self._monotonic())
        return max(new - old for old, new in zip(before, self._before, strict=True)) > self.woke_after
