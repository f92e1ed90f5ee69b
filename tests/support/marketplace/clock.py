"""The marketplace's time: real by default, faster by a factor, or standing still until a test moves it."""

from __future__ import annotations

import threading
import time


class Clock:
    """Unix seconds. `scale` is how many pass per real second: 1 is real time, 0 stands still and moves by `advance` alone.

    `skew_s` is what the marketplace's own idea of the time is off by; it shows in what it reports, not in how long things take.
    """

    def __init__(self, start: float | None = None, scale: float = 1.0) -> None:
        self._lock = threading.Lock()
        self._base = time.time() if start is None else start
        self._real = time.monotonic()
        self._scale = scale
        self.skew_s = 0.0

    @property
    def scale(self) -> float:
        return self._scale

    def now(self) -> float:
        with self._lock:
            return self._now()

    def told(self) -> float:
        """What the marketplace says the time is."""
        return self.now() + self.skew_s

    def advance(self, seconds: float) -> float:
        """Move on by so many seconds at once; the new time."""
        if seconds < 0:
            raise ValueError("time does not go back")
        with self._lock:
            self._base += seconds
            return self._now()

    def set_scale(self, scale: float) -> None:
        """From now on so many seconds per real one."""
        with self._lock:
            self._base, self._real = self._now(), time.monotonic()
            self._scale = scale

    def _now(self) -> float:
        return self._base + (time.monotonic() - self._real) * self._scale
