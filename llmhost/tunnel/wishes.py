"""What others want of a link, kept until its thread takes it: nothing that is said in between is lost."""

from __future__ import annotations

import threading
from typing import NamedTuple

from llmhost.tunnel.spec import LinkSpec


class Taken(NamedTuple):
    """What there is to do: the spec that is to be followed, whether another connection is wanted anyway, and whether to try now."""

    spec: LinkSpec
    renew: bool
    kicked: bool


class Wishes:
    """Every method may be called from any thread; `take` and `wait` are for the link's own.

    `spec` is what is wanted from the moment it was said, so that whoever compares with it compares with the last word.
    """

    def __init__(self, spec: LinkSpec) -> None:
        self.spec = spec
        self.leave_by: float | None = None
        self._renew = False
        self._kicked = False
        self._happened = False
        self._changed = threading.Condition()

    def follow(self, spec: LinkSpec) -> None:
        with self._changed:
            self.spec = spec
            self._tell()

    def renew(self) -> None:
        """Another connection though nothing is wrong."""
        with self._changed:
            self._renew = True
            self._tell()

    def kick(self) -> None:
        with self._changed:
            self._kicked = True
            self._tell()

    def leave(self, by: float) -> None:
        """Be gone at that monotonic time; an earlier one counts, a later one does not."""
        with self._changed:
            self.leave_by = by if self.leave_by is None else min(by, self.leave_by)
            self._tell()

    def poke(self) -> None:
        """Something happened that is worth a look."""
        with self._changed:
            self._tell()

    def take(self) -> Taken:
        """All that was said since the last call."""
        with self._changed:
            taken = Taken(self.spec, self._renew, self._kicked)
            self._renew = self._kicked = False
            return taken

    def wait(self, seconds: float) -> None:
        """Until something is said, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: self._happened, seconds)
            self._happened = False

    def _tell(self) -> None:
        self._happened = True
        self._changed.notify_all()
