"""The Ollama that a rented machine's onstart script started before this node had anybody to watch over it (templates/onstart.sh)."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from llmhost.node.layout import Layout
from llmhost.supervisor.process import alive, birth_of, kill_group

# Ollama ends the runner it has, which an early one does not have.
GRACE_S = 5.0
POLL_S = 0.05
# How far a file has come is written down when its pull is given up, but not when the server ends: that would be fetched anew.
NOTED_S = 2.0
_PID, _STARTED = 0, 21  # fields of proc_pid_stat(5)


def end(layout: Layout) -> bool:
    """End it with all it started, and wait until it is gone; False when there is none. What it fetched stays for the node's own Ollama."""
    told = layout.folder / "early"
    group = _leader(told)
    if group is not None:
        _give_up_pull(group)
        for number in (signal.SIGTERM, signal.SIGKILL):
            kill_group(group, number)
            if _gone(group):
                break
    with suppress(OSError):
        told.unlink(missing_ok=True)
    return group is not None


def _leader(told: Path) -> int | None:
    """The process that wrote its own line of /proc there, if it still runs and no other has its number by now."""
    try:
        fields = told.read_text().split()  # the name is `(bash)`
        pid, started = int(fields[_PID]), fields[_STARTED]
    except (OSError, ValueError, IndexError):
        return None
    return pid if alive(pid) and birth_of(pid) == started else None


def _give_up_pull(group: int) -> None:
    pulls = [pid for pid in _members(group) if b"\0pull\0" in _command_line(pid)]
    for pid in pulls:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    if pulls:
        time.sleep(NOTED_S)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _gone(group: int) -> bool:
    """Whether all of the group ended within GRACE_S; those that nobody collected count as ended."""
    deadline = time.monotonic() + GRACE_S
    while _members(group):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _members(group: int) -> list[int]:
    return [pid for pid in _pids() if _group_of(pid) == group and alive(pid)]


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _group_of(pid: int) -> int | None:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None
