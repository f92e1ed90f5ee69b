"""How often each endpoint may be called: the vendor's minimum intervals, kept by all threads of the process together."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds between two calls of one endpoint by one key (vast facts §1.5). Those without an interval get a modest one.
INTERVALS = {"create": 4.5, "list": 1.0, "manage": 1.0, "destroy": 3.0, "ssh_keys": 1.0, "ssh_key_create": 1.0}
DEFAULT_INTERVAL = 0.5
PENALTIES = {"create": 12.0}
PENALTY = 1.0
# The market counts 10 searches a minute; another process with the same key may search too (vast facts §4.4).
SEARCHES, SEARCH_WINDOW_S = 8, 60.0
# Two calls that leave at the right distance may arrive a little closer together.
MARGIN = 1.05
# Whatever `Retry-After` says, an endpoint is not closed for longer (times the factor): something may have to be destroyed.
LONGEST_CLOSED_S = 60.0


class Pace:
    """Turns by endpoint. `factor` stretches every interval: 1 for the real market."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor
        self._lock = threading.Lock()
        self._open_at: dict[str, float] = {}
        self._searches: deque[float] = deque(maxlen=SEARCHES)

    @contextmanager
    def turn(self, endpoint: str) -> Iterator[None]:
        """Wait until the endpoint may be called; the call is made inside.

        The next one waits from the start of this one, and again from its end: then they arrive at the right distance however long the way
        was, and yet a call that hangs does not hold up the others.
        """
        while (wait := self._take(endpoint)) > 0:
            time.sleep(wait)
        try:
            yield
        finally:
            self._close(endpoint, self._interval(endpoint))

    def too_soon(self, endpoint: str, retry_after_s: float | None = None) -> float:
        """The market refused a call as too frequent: keep the endpoint closed, for as long as it says or the table does; the seconds."""
        wait = self.refusal_s(endpoint) if retry_after_s is None else max(retry_after_s, self._interval(endpoint))
        self._close(endpoint, min(wait, LONGEST_CLOSED_S * self.factor))
        return wait

    def refusal_s(self, endpoint: str) -> float:
        """What the table says to wait after a refusal, in seconds."""
        return self._interval(endpoint) + PENALTIES.get(endpoint, PENALTY) * self.factor

    def _take(self, endpoint: str) -> float:
        """Seconds still to wait; 0 = the turn is taken."""
        with self._lock:
            now = time.monotonic()
            wait = max(self._open_at.get(endpoint, 0.0), self._window(endpoint)) - now
            if wait <= 0:
                self._open_at[endpoint] = now + self._interval(endpoint) * MARGIN
                if endpoint == "search":
                    self._searches.append(now)
            return wait

    def _window(self, endpoint: str) -> float:
        """When the window of searches has room again."""
        full = endpoint == "search" and len(self._searches) == SEARCHES
        return self._searches[0] + SEARCH_WINDOW_S * self.factor if full else 0.0

    def _interval(self, endpoint: str) -> float:
        return 0.0 if endpoint == "search" else INTERVALS.get(endpoint, DEFAULT_INTERVAL) * self.factor

    def _close(self, endpoint: str, seconds: float) -> None:
        with self._lock:
            self._open_at[endpoint] = max(self._open_at.get(endpoint, 0.0), time.monotonic() + seconds)


_shared: dict[tuple[str, bytes, float], Pace] = {}
_shared_lock = threading.Lock()


def shared(url: str, key: str, factor: float) -> Pace:
    """The one Pace of this process for a market and an account."""
    name = (url, hashlib.blake2b(key.encode(), digest_size=16).digest(), factor)
    with _shared_lock:
        return _shared.setdefault(name, Pace(factor))
