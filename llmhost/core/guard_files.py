"""The files by which a rented machine's dead-man switch (templates/onstart.sh) knows that somebody is there, relative to its home.

What a file tells is when it was last changed; `ENDS` and `STATE` have text in them. On any other machine the folder is not there, and then
nothing is written.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

GUARD = ".llmhost/guard"
CONTACT = f"{GUARD}/contact"  # the operator was here
ACTIVE = f"{GUARD}/active"  # somebody had work for the model
ENDS = f"{GUARD}/ends"  # the hard end, in seconds since 1970; absent = none
STATE = f"{GUARD}/state"  # the switch's last word

EVERY_S = 1.0
# A machine's own end comes so much later than the lease's, at which the watch lets answers under way finish, and then ends it.
AFTER_LEASE_S = 60
# The same for the idle time, of which the watch hears a little later; of a short one a quarter.
AFTER_IDLE_PART = 0.25


class Touch:
    """Changes the time of a file, at most once in EVERY_S. `path` is absolute, or relative to the home; None = of no file."""

    def __init__(self, path: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = Path.home() / path if path else None
        self._clock = clock
        self._due = clock()

    def touch(self) -> None:
        """Now. What cannot be written is let be: a machine that ends too early is no reason to refuse a request."""
        if self._path is None or (now := self._clock()) < self._due:
            return
        self._due = now + EVERY_S
        with suppress(OSError):
            self._touch(self._path)

    @staticmethod
    def _touch(path: Path) -> None:
        try:
            os.utime(path)
        except FileNotFoundError:
            path.touch(mode=0o600)
