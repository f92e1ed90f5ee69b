"""The connections of one link: the one in use, the one being opened, and those whose streams are not over (make before break)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from llmhost.tunnel import sockets
from llmhost.tunnel.base import open_transport
from llmhost.tunnel.connection import Connection
from llmhost.tunnel.spec import LinkSpec


class Generations:
    """Changed by the link's thread only; `lifeline` is a descriptor that ends when this process does."""

    def __init__(self, run_dir: Path, lifeline: int, changed: Callable[[], None], said: Callable[[str], None]) -> None:
        self._run_dir = run_dir
        self._lifeline = lifeline
        self._changed = changed
        self._said = said
        self._local: Path | None = None
        self._retired: list[tuple[Connection, float]] = []
        self.current: Connection | None = None
        self.rising: Connection | None = None

    def open(self, spec: LinkSpec) -> None:
        """Begin a connection. Raises OSError when there is no such program."""
        path = sockets.new_socket(self._run_dir)
        rising = Connection(open_transport(spec.transport), spec, path, self._changed, self._said)
        rising.start(self._lifeline)
        rising.beat()
        self.rising = rising

    def promote(self, local: Path, drain_s: float) -> None:
        """Use the one that was opened, and let the streams of the one before go on for `drain_s`. Raises OSError."""
        assert self.rising is not None
        sockets.point(local, self.rising.local)
        self._local = local
        old, self.current, self.rising = self.current, self.rising, None
        if old is not None:
            old.retire()
            self._retired.append((old, time.monotonic() + drain_s))

    def move(self, local: Path) -> None:
        """Let another name lead to the one in use. Raises OSError."""
        if self.current is None or self._local in (None, local):
            return
        sockets.point(local, self.current.local)
        self._forget_name()
        self._local = local

    def give_up_rising(self) -> None:
        if self.rising is not None:
            self.rising.kill()
            self._retired.append((self.rising, 0.0))
            self.rising = None

    def sweep(self, now: float) -> None:
        """End the retired ones whose time is over, and forget those that ended."""
        for connection, until in self._retired:
            if now >= until:
                connection.kill()
        self._retired = [(one, until) for one, until in self._retired if not one.ended]

    def retire_all(self) -> None:
        """No new streams at all."""
        self._forget_name()
        self.give_up_rising()
        for connection in self.all():
            connection.retire()

    def kill_all(self) -> None:
        for connection in self.all():
            connection.kill()

    def _forget_name(self) -> None:
        if self._local is not None and self.current is not None:
            sockets.unpoint(self._local, self.current.local)

    def all(self) -> list[Connection]:
        return [one for one in (self.current, self.rising, *(old for old, _ in self._retired)) if one]

    def alive(self) -> list[Connection]:
        return [one for one in self.all() if not one.ended]

    def pids(self) -> list[int]:
        return [pid for one in self.all() if (pid := one.pid)]

    def heard_at(self) -> float | None:
        """When any of them was heard last, monotonic."""
        return max((at for one in self.all() if (at := one.echo.heard_at)), default=None)
