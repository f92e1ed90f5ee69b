"""The processes below one process, and a guard that ends them when the test is gone, however it went.

As a program (`python -I -S process_tree.py PID…`) it waits for its stdin to close, which the death of the test does, and then kills
everything below the given processes and these themselves.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path


def _parents() -> dict[int, tuple[int, str]]:
    """Parent and program name of every process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(errors="replace")
            except OSError:
                continue  # it ended while we looked
            name, _, rest = stat[stat.index("(") + 1 :].rpartition(")")
            if rest.split()[0] not in "ZX":
                found[int(entry.name)] = (int(rest.split()[1]), name)
    return found


def descendants(pid: int) -> dict[int, str]:
    """Program name by pid of all that `pid` started, and what these started, that still have their parent. Zombies are left out."""
    parents, found, layer = _parents(), {}, {pid}
    while layer:
        layer = {child for child, (parent, _) in parents.items() if parent in layer and child not in found}
        found.update({child: parents[child][1] for child in layer})
    return found


def send(pids: list[int], number: int) -> None:
    """A signal to each; those that ended are passed over."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def kill_tree(pid: int) -> None:
    """Kill a process and all below it; it is stopped first, so that it starts nothing more meanwhile."""
    send([pid], signal.SIGSTOP)
    send([*descendants(pid), pid], signal.SIGKILL)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    for each in sys.argv[1:]:
        kill_tree(int(each))
