"""What the machine offers: real programs, free ports, processes."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

T = TypeVar("T")


def missing(what: str, how: str) -> NoReturn:
    """End the test because a real part is not there: a failure in CI, a skip on a developer's machine."""
    text = f"{what} is not installed: {how}"
    if os.environ.get("CI") == "true":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def program(name: str, how: str) -> str:
    """The path of a program on PATH, or `missing`."""
    return shutil.which(name) or missing(name, how)


def free_port() -> int:
    """A loopback port nobody listens on right now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def poll(condition: Callable[[], T], seconds: float) -> T:
    """The first truthy value of `condition`, asked 20 times a second; the last falsy one when `seconds` went by."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return value


def wait_until(condition: Callable[[], T], what: str, seconds: float = 10.0) -> T:
    """`poll` that fails the test when nothing truthy came in time."""
    return poll(condition, seconds) or pytest.fail(f"waited {seconds:.0f} s in vain for {what}")


def processes_touching(folder: Path) -> dict[int, str]:
    """Command line by pid of every process of ours that has a file open under `folder` or names it in argv or environment."""
    needle = os.fsencode(folder)
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if _touches(entry, needle):
                    found[int(entry.name)] = (
                        (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                    )
            except OSError:
                continue  # it ended while we looked, or is not ours
    return found


def _touches(process: Path, needle: bytes) -> bool:
    if needle in (process / "cmdline").read_bytes() or needle in (process / "environ").read_bytes():
        return True
    return any(needle in os.fsencode(os.readlink(link)) for link in (process / "fd").iterdir())
