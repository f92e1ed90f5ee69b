"""How often each endpoint may be called: the vendor's minimum intervals, kept by all threads and all processes of an installation."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from llmhost.providers.vast.shared_file import held
from llmhost.providers.vast.turns import SEARCHES, Turns, turns_of

# Seconds between two calls of one endpoint by one key (vast facts §1.5). Those without an interval get a modest one. `ssh_keys` is both
# listing and adding, which may have one limit together.
INTERVALS = {"create": 4.5, "list": 1.0, "manage": 1.0, "destroy": 3.0, "ssh_keys": 1.0}
DEFAULT_INTERVAL = 0.5
# Ten searches a minute are one in 6 s.
PENALTIES = {"create": 12.0, "search": 7.5}
PENALTY = 1.0
SEARCH_WINDOW_S = 60.0
# Two calls that leave at the right distance may arrive a little closer together.
MARGIN = 1.05
# Whatever `Retry-After` says, an endpoint is not closed for longer (times the factor): something may have to be destroyed.
LONGEST_CLOSED_S = 60.0
FILE_BYTES = 16_384


class Pace:
    """Turns by endpoint. `factor` stretches every interval: 1 for the real market.

    Other processes are heeded through the file at `path`; without one, or with one that cannot be used, only this one's calls count.
    """

    def __init__(self, factor: float = 1.0, path: Path | None = None) -> None:
        self.factor = factor
        self._path = path
        self._lock = threading.Lock()
        self._turns = Turns()

    @contextmanager
    def turn(self, endpoint: str, told: Callable[[float], None] | None = None) -> Iterator[None]:
        """Wait until the endpoint may be called, `told` how many seconds; the call is made inside.

        The next one waits from the start of this one, and again from its end: then they arrive at the right distance however long the way
        was, and yet a call that hangs does not hold up the others.
        """
        while (wait := self._take(endpoint)) > 0:
            if told is not None:
                told(wait)
            told = None
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

    def closed_s(self, endpoint: str) -> float:
        """How long the endpoint is closed from now on, in seconds."""
        with self._changing() as (turns, now):
            return self._wait(turns, endpoint, now)

    def _take(self, endpoint: str) -> float:
        """Seconds still to wait; 0 = the turn is taken."""
        with self._changing() as (turns, now):
            wait = self._wait(turns, endpoint, now)
            if wait <= 0:
                turns.close(endpoint, now, now + self._interval(endpoint) * MARGIN)
                if endpoint == "search":
                    turns.searched(now)
            return wait

    def _wait(self, turns: Turns, endpoint: str, now: float) -> float:
        """Until it is open, and until the window of searches has room again."""
        full = endpoint == "search" and len(turns.searches) == SEARCHES
        window = turns.searches[0] + SEARCH_WINDOW_S * self.factor if full else 0.0
        return max(0.0, turns.open_at(endpoint) - now, window - now)

    def _interval(self, endpoint: str) -> float:
        return 0.0 if endpoint == "search" else INTERVALS.get(endpoint, DEFAULT_INTERVAL) * self.factor

    def _close(self, endpoint: str, seconds: float) -> None:
        with self._changing() as (turns, now):
            turns.close(endpoint, now, now + seconds)

    @contextmanager
    def _changing(self) -> Iterator[tuple[Turns, float]]:
        """What all processes know and the time of day; changes to it are theirs too."""
        with self._lock, held(self._path, FILE_BYTES) as file:
            now = time.time()
            known = self._turns if file is None else self._turns.with_others(turns_of(file.read()))
            self._turns = known.believable(now, LONGEST_CLOSED_S * self.factor)
            yield self._turns, now
            if file is not None:
                file.write(self._turns.as_dict())


_shared: dict[tuple[str, Path | None, float], Pace] = {}
_shared_lock = threading.Lock()


def shared(account: str, folder: Path | None, factor: float) -> Pace:
    """The one Pace of this process for an account, named by a digest, whose memory is in `folder`."""
    with _shared_lock:
        path = None if folder is None else folder / f"pace-{account}.json"
        return _shared.setdefault((account, folder, factor), Pace(factor, path))
