"""Ends the pull of a model that moves nothing any more, and measures how fast it moved."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from types import TracebackType

from llmhost.bootstrap.install import PULL
from llmhost.core.progress import Progress
from llmhost.node.pull import VERIFY_S
from llmhost.ssh.session import Session

# Less says more about the start of a transfer than about the network.
MEASURED_FROM_BYTES = 50_000_000
LOOK_UP_S = 0.5


@dataclass(slots=True)
class PullWatch:
    """A Progress, and a guard while it is entered: a pull without one more byte for `stall_s` seconds has its session closed.

    `stalled` says so then.
    """

    progress: Progress
    session: Session
    stall_s: float
    stalled: bool = False
    _seen: tuple[str, int] | None = None
    _moved_at: float = 0.0
    _first: tuple[float, int] | None = None
    _last: tuple[float, int] | None = None
    _pulling: bool = False
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    @property
    def mbps(self) -> float | None:
        """Mbit/s of what was seen coming; None when that was too little to say."""
        if self._first is None or self._last is None:
            return None
        seconds, moved = self._last[0] - self._first[0], self._last[1] - self._first[1]
        return 8e-6 * moved / seconds if seconds > 0 and moved >= MEASURED_FROM_BYTES else None

    def phase(self, code: str, text: str) -> None:
        self._moved_at = time.monotonic()
        self._pulling = code == PULL
        self.progress.phase(code, text)

    def transfer(self, code: str, text: str, done: int, total: int | None) -> None:
        if code == PULL:
            self._hear(text, done)
        self.progress.transfer(code, text, done, total)

    def note(self, text: str) -> None:
        self.progress.note(text)

    def __enter__(self) -> PullWatch:
        self._thread = threading.Thread(target=self._watch, name="llmhost-pull-watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _hear(self, text: str, done: int) -> None:
        now = time.monotonic()
        if (text, done) == self._seen:
            return
        if self._seen is None or done > self._seen[1]:
            self._first = self._first or (now, done)
            self._last = (now, done)
        self._seen, self._moved_at = (text, done), now

    def _watch(self) -> None:
        while not self._over.wait(min(LOOK_UP_S, self.stall_s / 4)):
            if self._pulling and time.monotonic() - self._moved_at > self._limit():
                self.stalled = True
                self.session.close()
                return

    def _limit(self) -> float:
        """A digest of 19 GB is checked without a word."""
        verifying = self._seen is not None and self._seen[0].startswith("verifying")
        return max(VERIFY_S, self.stall_s) if verifying else self.stall_s
