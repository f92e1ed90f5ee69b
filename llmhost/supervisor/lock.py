"""The one lock of a state directory: whoever holds it is, or is about to start, its supervisor.

It is a `flock`, which belongs to the open file and not to a process: a client takes it, hands the descriptor to the supervisor it starts,
and there is no moment between the two in which a second client could start another. The file's text says who holds it; after a crash the
text stays behind, which is how the crash is noticed and explained. A supervisor that stops in order removes the file under the lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmhost.core.errors import LlmhostError
from llmhost.supervisor.process import BOOT_SLACK_S, booted_at

_BUSY = (errno.EAGAIN, errno.EACCES)


@dataclass(frozen=True, slots=True)
class Holder:
    """What a lock file says of the supervisor that wrote it. `started_at` in seconds since the epoch, `children` process ids.

    `births` has for each of these processes when it was started, in the system's own words (`process.birth_of`): a number may be given to
    another process later, a number and a birth not.
    """

    pid: int
    version: str
    started_at: float
    children: tuple[int, ...] = ()
    births: dict[int, str] = field(default_factory=dict)


def try_lock(path: Path) -> int | None:
    """The locked descriptor, or None when another process has it. Raises LlmhostError when the file cannot be used at all."""
    while True:
        descriptor = _open(path)
        if not _flock(descriptor, path):
            os.close(descriptor)
            return None
        if _still_named(descriptor, path):
            return descriptor
        os.close(descriptor)  # its holder removed the file while we opened it: that lock would guard nothing


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock now. Creates nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # also on a read-only file system
    except OSError:
        return False
    try:
        # Shared, so that two lookers do not take each other for a holder.
        return not _flock(descriptor, path, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def write_holder(descriptor: int, holder: Holder) -> None:
    """Say who holds the lock. A full disk loses only the explanation of a later crash."""
    text = json.dumps(asdict(holder)).encode()
    with contextlib.suppress(OSError):
        os.pwrite(descriptor, text, 0)
        os.ftruncate(descriptor, len(text))


def read_holder(path: Path) -> Holder | None:
    """Who wrote the lock file last, or None when there is no file or nothing readable in it."""
    try:
        data: Any = json.loads(path.read_text())
        children = tuple(int(pid) for pid in data.get("children") or ())
        births = {int(pid): str(birth) for pid, birth in (data.get("births") or {}).items()}
        return Holder(int(data["pid"]), str(data["version"]), float(data["started_at"]), children, births)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def before_boot(holder: Holder) -> bool:
    """Whether this machine was restarted since: then none of its processes is there any more, whatever has their numbers."""
    return holder.started_at < booted_at() - BOOT_SLACK_S


def remove(path: Path, descriptor: int) -> None:
    """Remove the file while it is locked, then let go."""
    with contextlib.suppress(OSError):
        if _still_named(descriptor, path):
            path.unlink()
    os.close(descriptor)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error


def _flock(descriptor: int, path: Path, kind: int = fcntl.LOCK_EX) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise _unusable(path, error) from error
    return True


def _still_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _unusable(path: Path, error: OSError) -> LlmhostError:
    return LlmhostError(
        f"cannot lock {path}: {error.strerror or error}.",
        hint=f"Move {path} away, free disk space, or point XDG_STATE_HOME to a local folder of your own.",
        code="state_unwritable",
    )
