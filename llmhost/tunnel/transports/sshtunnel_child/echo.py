"""Which beat of the link is which line on the wire."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading


class Beats:
    """Gives each line of the link a name of its own to travel under, and writes the line out when the name first comes back.

    Every connection carries every name, so the first of them answers; and whatever else a login shell prints is never taken for a beat.
    """

    def __init__(self, out: int) -> None:
        """`out` is the file descriptor that the lines are written to."""
        self._out = out
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._lines: dict[bytes, bytes] = {}

    def name(self, line: bytes) -> bytes:
        """The line to send for it."""
        with self._lock:
            name = b"llmhost beat %d\n" % next(self._numbers)
            self._lines[name] = line
        return name

    def came_back(self, name: bytes) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError):  # the link is gone: standard input says so too
            line = self._lines.pop(name, b"")
            os.write(self._out, line)
