"""Facts about processes by number, on Linux and macOS."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

POLL_S = 0.02
# Fields of proc_pid_stat(5), counted from `state`, the third.
_THREADS = 20 - 3  # num_threads
_STARTED = 22 - 3  # starttime, in clock ticks since boot
# A clock set by hand or by NTP moves the moment the machine seems to have started.
BOOT_SLACK_S = 30.0
_OURS = ("llmhost.proxy", "llmhost.tunnel.", "llmhost.supervisor")  # modules, by the beginning of their names
_OUR_SSH = "HostKeyAlias=llmhost-"


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
    fields = _stat_fields(pid)
    # While other threads still end, the first one is shown as a zombie already, but locks and ports are still held.
    return bool(fields) and fields[0] in "ZX" and int(fields[_THREADS]) <= 1


def _stat_fields(pid: int) -> list[str]:
    """From `state` on; empty where there is no such process or no /proc."""
    try:
        # /proc/PID/stat is "pid (name) S …"; the name may itself hold parentheses.
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def birth_of(pid: int) -> str:
    """When a process was started, as the system writes it: only good for comparing. Empty when it is gone or hidden."""
    if sys.platform == "darwin":
        return _ps("lstart=", pid)
    fields = _stat_fields(pid)
    return fields[_STARTED] if fields else ""


def booted_at() -> float:
    """When this machine started, in seconds since the epoch, give or take `BOOT_SLACK_S`."""
    clock = time.CLOCK_MONOTONIC if sys.platform == "darwin" else time.CLOCK_BOOTTIME
    return time.time() - time.clock_gettime(clock)


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


def command_of(pid: int) -> list[str]:
    """The command line of a process; empty when it is gone or hidden."""
    if sys.platform == "darwin":
        return _ps("command=", pid).split()
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _ps(column: str, pid: int) -> str:
    # The locale decides how `ps` writes a date, and two shells may have different ones.
    argv, environment = ["ps", "-o", column, "-p", str(pid)], {**os.environ, "LC_ALL": "C", "TZ": "UTC"}
    try:
        shown = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)
    except OSError:  # no room for another process: then nothing is known
        return ""
    return shown.stdout.strip()


def is_ours(pid: int, birth: str | None) -> bool:
    """Whether `pid` is one of llmhost's background processes, and the very one that was born at `birth` where that is known.

    Both are asked because a number may have been given to somebody else's process since.
    """
    command = command_of(pid)
    runs_ours = any(flag == "-m" and module.startswith(_OURS) for flag, module in itertools.pairwise(command))
    runs_ours = runs_ours or any(argument.startswith(_OUR_SSH) for argument in command)
    return runs_ours and birth in (None, birth_of(pid))


def end_orphans(pids: Iterable[int], births: Mapping[int, str], patience_s: float) -> list[int]:
    """Wait for processes of ours that should end by themselves, then kill their groups; a stranger's is left alone.

    Returns those that still run.
    """
    left = wait_gone([pid for pid in pids if is_ours(pid, births.get(pid))], patience_s)
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
