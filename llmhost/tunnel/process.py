"""Facts about processes by number, on Linux and macOS."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

POLL_S = 0.02
_THREADS = 20 - 3  # field `num_threads` of proc_pid_stat(5), counted from `state`


def alive(pid: int) -> bool:
    """Whether `pid` runs. One that ended but was not yet collected by its parent does not count."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        # /proc/PID/stat is "pid (name) S …"; the name may itself hold parentheses.
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return False
    fields = stat.rpartition(")")[2].split()
    # While other threads still end, the first one is shown as a zombie already, but locks and ports are still held.
    return fields[0] in "ZX" and int(fields[_THREADS]) <= 1


def wait_gone(pids: Iterable[int], timeout_s: float) -> list[int]:
    """Wait until none of them runs; those that still do after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        left = [pid for pid in pids if alive(pid)]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(POLL_S)


def kill_group(group: int, number: signal.Signals) -> None:
    """Signal a whole process group; nothing happens when it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says EPERM for a group of zombies
        os.killpg(group, number)


def command_of(pid: int) -> str:
    """The command line of a process; empty when it is gone or hidden."""
    if sys.platform == "darwin":
        shown = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return shown.stdout.strip()
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def end_orphans(pids: Iterable[int], mark: str, patience_s: float) -> list[int]:
    """Wait for processes that should end by themselves, then kill the groups of those whose command line has `mark`.

    The mark is there because a number may have been given to somebody else's process since. Returns those that still run.
    """
    left = wait_gone([pid for pid in pids if mark in command_of(pid)], patience_s)
    for pid in left:
        kill_group(pid, signal.SIGKILL)
    return wait_gone(left, patience_s)


def describe_exit(code: int, uptime_s: float) -> str:
    """A sentence about how a process ended; `code` as subprocess has it (negative = signal)."""
    if code < 0:
        try:
            how = f"killed by {signal.Signals(-code).name}"
        except ValueError:
            how = f"killed by signal {-code}"
    else:
        how = f"exited with code {code}"
    return f"{how} after {uptime_s:.1f} s"
