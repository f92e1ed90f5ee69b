"""Log files: size-capped, and read from the end.

A child appends to its log itself (its standard error is the file, opened with O_APPEND), so nothing passes through the supervisor and
nothing is lost with it. Rotation therefore copies the file to `NAME.1` and truncates it in place: the next append goes to its start.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

CAP_BYTES = 8 * 1024 * 1024
TAIL_BYTES = 64 * 1024


def open_append(path: Path) -> int:
    """A descriptor for appending; /dev/null when the file cannot be opened, because a full disk must not stop a server."""
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def rotate(path: Path, cap_bytes: int = CAP_BYTES) -> bool:
    """Move what is in `path` to `path`.1 when it is over the cap; whether it was. Trouble with the disk is left for the next time."""
    try:
        if path.stat().st_size <= cap_bytes:
            return False
        shutil.copyfile(path, _previous(path))
        os.chmod(_previous(path), 0o600)
        os.truncate(path, 0)
    except OSError:
        return False
    return True


def _previous(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def tail(path: Path, lines: int) -> list[str]:
    """The last lines, oldest first, from the last 64 KiB; none when there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return []
    return text.splitlines()[-lines:] if lines > 0 else []


class EventLog:
    """One JSON object a line: `time`, `event` and the event's fields. Callers pass no secrets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def write(self, event: str, **fields: Any) -> None:
        """Append one line. A log that cannot be written never stops the supervisor."""
        line = (
            json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}) + "\n"
        )
        with self._lock, contextlib.suppress(OSError):
            rotate(self.path)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
