"""Spreads streams over SSH connections in small groups, so that a connection that is lost takes few streams along.

A group is one connection. Groups are opened as streams come, one with room is kept in reserve, and those without streams are closed after
a while. When no more may be opened, or the machine lets none in, the groups grow instead.
"""

from __future__ import annotations

import functools
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from llmhost.tunnel.transports.sshtunnel_child.connection import Connection
from llmhost.tunnel.transports.sshtunnel_child.last_words import Ended


@dataclass(frozen=True, slots=True)
class Limits:
    """`group` streams per connection and `connections` at most; `openers` log in at once (sshd starts to refuse at 10, MaxStartups).

    Seconds: a connection without streams is closed after `idle`; after a failure the next is opened `pause` later, then twice that.
    """

    group: int = 4
    connections: int = 16
    openers: int = 4
    idle: float = 60.0
    pause: float = 1.0
    longest_pause: float = 60.0


class Pool:
    """All connections of the link. `on_end` is called when the last one is gone (with the reason), or with None when drained."""

    def __init__(
        self, open_one: Callable[[], Connection], on_end: Callable[[Ended | None], None], limits: Limits | None = None
    ) -> None:
        self._open_one = open_one
        self._on_end = on_end
        self._limits = limits or Limits()
        self._lock = threading.RLock()
        self._all: list[Connection] = []
        self._opening = 0
        self._open_after = 0.0
        self._pause = self._limits.pause
        self._waiting: deque[socket.socket] = deque()
        self._draining = False

    def start(self) -> None:
        """Open the first connection. Raises Ended."""
        first = self._open_one()
        first.check_forwarding()
        self._add(first)

    def place(self, client: socket.socket) -> None:
        """Carry an accepted connection, now or as soon as a connection has room."""
        with self._lock:
            self._waiting.append(client)
            self._settle()

    def beat(self, line: bytes) -> None:
        """Send a line over every connection; the first that brings it back answers for the machine."""
        for connection in self._snapshot():
            connection.beat(line)

    def tick(self) -> None:
        """To be called every `alive_every` seconds."""
        for connection in self._snapshot():
            connection.tick()
        with self._lock:
            idle = self._superfluous()
            for connection in idle:
                self._all.remove(connection)
            self._settle()
        for connection in idle:
            connection.close()

    def drain(self) -> None:
        """Open nothing more, and end when the streams that run are over."""
        with self._lock:
            self._draining = True
            self._end_if_drained()

    # ── inside; the lock is held where the name begins with an underscore and no lock is taken ───────────────────

    def _snapshot(self) -> list[Connection]:
        with self._lock:
            return list(self._all)

    def _add(self, connection: Connection) -> None:
        with self._lock:
            self._all.append(connection)
            connection.on_gone = self._gone
            if connection.gone:  # between its session's start and now
                self._gone(connection)
            else:
                self._settle()

    def _gone(self, connection: Connection) -> None:
        with self._lock:
            if connection not in self._all:
                return
            self._all.remove(connection)
            if self._all:
                self._settle()
            else:
                self._on_end(Ended("connection_lost", connection.why))

    def _settle(self) -> None:
        while self._waiting and (connection := self._with_room()) is not None:
            connection.streams += 1
            connection.carry(self._waiting.popleft(), functools.partial(self._done, connection))
        while self._wants_more():
            self._opening += 1
            threading.Thread(target=self._open, daemon=True).start()

    def _with_room(self) -> Connection | None:
        fresh = [connection for connection in self._all if connection.fresh]
        best = min(fresh or self._all, key=lambda connection: connection.streams, default=None)
        if best is None or (best in fresh and best.streams < self._limits.group):
            return best
        return None if self._opening or self._may_open() else best

    def _wants_more(self) -> bool:
        room = sum(max(0, self._limits.group - each.streams) for each in self._all if each.fresh)
        wanted = room + self._opening * self._limits.group <= len(self._waiting)
        return wanted and self._opening < self._limits.openers and self._may_open()

    def _may_open(self) -> bool:
        full = len(self._all) + self._opening >= self._limits.connections
        return not full and not self._draining and time.monotonic() >= self._open_after

    def _open(self) -> None:
        try:
            opened = self._open_one()
        except Ended:
            opened = None  # the connections there are go on; when the machine is gone they end too
        with self._lock:
            self._opening -= 1
            if opened is None:
                self._open_after = time.monotonic() + self._pause
                self._pause = min(self._limits.longest_pause, self._pause * 2)
                self._settle()
            elif self._all:
                self._pause = self._limits.pause
                self._add(opened)

    def _done(self, connection: Connection) -> None:
        with self._lock:
            connection.streams -= 1
            connection.idle_since = time.monotonic()
            self._settle()
            self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self._draining and not self._waiting and not any(connection.streams for connection in self._all):
            self._on_end(None)

    def _superfluous(self) -> list[Connection]:
        before = time.monotonic() - self._limits.idle
        idle = [connection for connection in self._all if not connection.streams and connection.idle_since < before]
        spare = any(connection.streams < self._limits.group for connection in self._all if connection not in idle)
        return idle if spare else idle[1:]
