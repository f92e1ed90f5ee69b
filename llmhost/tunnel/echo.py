"""The heartbeat of one connection: which lines were sent, which came back, and when that means it is lost.

A line that ends in `?` asks the other side, too, whether something listens where the streams are to go; `? yes` is the answer of a
transport that can look, the mere echo says nothing.

Pure bookkeeping over monotonic seconds that the caller gives; safe to use from two threads.
"""

from __future__ import annotations

import re
import secrets
import threading

from llmhost.tunnel.spec import LinkTiming

# What a chatty login shell may print around our lines; only the end of it can be the beginning of one.
_KEPT_BYTES = 256
_SMOOTHING = 0.25
# Lines that may be under way. A child that was stopped takes none and never ends; those it was sent first tell all there is to tell.
_MOST_PENDING = 64


class Echo:
    """Lines carry a word that nobody else prints and a number, so that whatever else comes back is ignored."""

    def __init__(self, timing: LinkTiming) -> None:
        word = f"llmhost-{secrets.token_hex(4)}".encode()
        self._word = word
        self._shape = re.compile(re.escape(word) + rb" (\d+)(?: \?( yes)?)?\n")
        self._timing = timing
        self._lock = threading.Lock()
        self._number = 0
        self._pending: dict[int, float] = {}
        self._sent_at: float | None = None
        self._answer_by: float | None = None
        self._buffer = b""
        self.heard_at: float | None = None
        self.asked_at: float | None = None
        self.listens_at: float | None = None
        self.rtt_s: float | None = None

    def line(self, now: float, *, ask: bool = False) -> bytes:
        """The next line to send; `ask` = also whether something listens there (`listens_at` = when the other side said yes)."""
        with self._lock:
            self._number += 1
            self._sent_at = now
            if len(self._pending) < _MOST_PENDING:
                self._pending[self._number] = now
            self.asked_at = now if ask else self.asked_at
            return b"%s %d%s\n" % (self._word, self._number, b" ?" if ask else b"")

    def hear(self, data: bytes, now: float) -> bool:
        """Take in what came back; whether a line of ours was in it."""
        with self._lock:
            self._buffer += data
            found = None
            for found in self._shape.finditer(self._buffer):
                self._answered(int(found[1]), now)
                self.listens_at = now if found[2] else self.listens_at
            self._buffer = self._buffer[found.end() if found else 0 :][-_KEPT_BYTES:]
            return found is not None

    def _answered(self, number: int, now: float) -> None:
        sent_at = self._pending.get(number)
        if sent_at is None:
            return
        self._pending = {later: at for later, at in self._pending.items() if later > number}
        if number > 1:  # the first one waited for the login
            rtt_s = now - sent_at
            self.rtt_s = rtt_s if self.rtt_s is None else self.rtt_s + _SMOOTHING * (rtt_s - self.rtt_s)
        self.heard_at, self._answer_by = now, None

    def due_in(self, now: float) -> float:
        """Seconds until the next line should be sent; 0 = now."""
        return 0.0 if self._sent_at is None else max(0.0, self._sent_at + self._timing.echo_every - now)

    def woke(self, now: float) -> None:
        """The machine slept: what was sent before counts no more, and one answer within `woke_within` is asked for."""
        with self._lock:
            self._pending, self._sent_at = {}, None
            self._answer_by = now + self._timing.woke_within

    def lost(self, now: float) -> bool:
        """Whether too many lines are overdue, or the one asked for after a sleep is."""
        with self._lock:
            if self._answer_by is not None:
                return now >= self._answer_by
            late = sum(now - at >= self._timing.echo_within for at in self._pending.values())
            return late >= self._timing.misses
