"""A small file that several processes of one user read and change in turn; whatever is wrong with it, it is only not there."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Who holds it does so for a few reads and writes: longer means that it was stopped, or that this filesystem has no locks.
LOCK_S, LOCK_EVERY_S = 1.0, 0.01
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Held:
    """The file while nobody else has it. `most` = bytes that are read or written at most."""

    def __init__(self, descriptor: int, most: int) -> None:
        self._descriptor, self._most = descriptor, most

    def read(self) -> Any:
        """Its JSON; None for what is none, or too long."""
        try:
            if os.fstat(self._descriptor).st_size > self._most:
                return None
            return json.loads(os.pread(self._descriptor, self._most, 0))
        except (OSError, ValueError, RecursionError):
            return None

    def write(self, data: Any) -> None:
        """Replace it; emptied when that is too long. Half a text, as of a full disk, reads as None."""
        text = json.dumps(data, separators=(",", ":")).encode()
        try:
            os.ftruncate(self._descriptor, 0)
            if len(text) <= self._most:
                os.pwrite(self._descriptor, text, 0)
        except OSError:
            return


@contextmanager
def held(path: Path | None, most: int) -> Iterator[Held | None]:
    """The file at `path`, made 0600 in folders of 0700; None when there is none to be had."""
    descriptor = None if path is None else _open(path)
    try:
        yield Held(descriptor, most) if descriptor is not None and _locked(descriptor) else None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _open(path: Path) -> int | None:
    try:
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, _FLAGS, 0o600)
    except OSError:
        return None
    if _private(descriptor):
        return descriptor
    os.close(descriptor)
    return None


def _private(descriptor: int) -> bool:
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode) or info.st_uid != os.getuid():
            return False
        if stat.S_IMODE(info.st_mode) != 0o600:
            os.fchmod(descriptor, 0o600)
    except OSError:
        return False
    return True


def _locked(descriptor: int) -> bool:
    give_up = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                return False
            time.sleep(LOCK_EVERY_S)
        except OSError:
            return False
        else:
            return True
