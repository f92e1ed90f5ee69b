"""`python -m llmhost.supervisor.lifeline -- CMD…`: runs a program that ignores its standard input, and ends it when ours does.

`ollama serve` would outlive a supervisor that was killed, and its runners hold the graphics memory. This wrapper leads a process group
of its own, watches standard input (the supervisor keeps the other end), and at its end, or at SIGTERM, ends the whole group.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from types import FrameType

GRACE_S = 3.0
NOT_FOUND = 127  # as a shell has it
STDIN = 0


class _Group:
    """The process group we lead. It is ended in two steps, and we are its last member."""

    def __init__(self) -> None:
        self.killed_at: float | None = None

    def end(self) -> None:
        if self.killed_at is None:
            self.killed_at = time.monotonic() + GRACE_S
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.killpg(0, signal.SIGTERM)

    def time_left(self) -> float | None:
        """Seconds until the rest is killed, for `select`; None while nothing is to end."""
        return None if self.killed_at is None else max(0.0, self.killed_at - time.monotonic())

    def kill(self) -> None:
        os.killpg(0, signal.SIGKILL)


def main(argv: list[str]) -> int:
    """Run `CMD…`; its exit code, 128 + the signal that ended it, or 127 when it cannot be started."""
    command = argv[argv.index("--") + 1 :]
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)
    wake = _wake_on_signals()
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror or error}\n")
        return NOT_FOUND
    group = _Group()
    code = _wait(process, group, wake)
    if group.killed_at is not None:
        group.kill()
    group.end()  # what the program left running
    return code if code >= 0 else 128 - code


def _wait(process: subprocess.Popen[bytes], group: _Group, wake: int) -> int:
    watched = [STDIN, wake]
    while (code := process.poll()) is None:
        readable, _, _ = select.select(watched, [], [], group.time_left())
        if STDIN in readable and not os.read(STDIN, 4096):
            watched.remove(STDIN)
            group.end()
        if wake in readable and {signal.SIGTERM, signal.SIGINT} & set(os.read(wake, 64)):
            group.end()
        if group.time_left() == 0.0:
            group.kill()
    return code


def _wake_on_signals() -> int:
    """A descriptor from which the numbers of SIGTERM, SIGINT and SIGCHLD can be read as they come."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, _nothing)
    return read_end


def _nothing(number: int, frame: FrameType | None) -> None:
    """A handler has to be there for the descriptor to be written."""


if __name__ == "__main__":
    sys.exit(main(sys.argv))
