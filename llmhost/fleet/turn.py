"""One `up` over SSH at a time: two at once would take the same node ids for different machines."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.supervisor import lock

POLL_S = 0.1


@contextlib.contextmanager
def my_turn(paths: Paths, progress: Progress) -> Iterator[None]:
    """Wait until no other `up` of this state directory is at work; the end of a process, however it ends, is the end of its turn."""
    paths.create()
    path = paths.state_dir / "up.lock"
    told = False
    while (descriptor := lock.try_lock(path)) is None:
        if not told:
            progress.phase("turn", "waiting for another llmhost up to end")
            told = True
        time.sleep(POLL_S)
    try:
        yield
    finally:
        lock.remove(path, descriptor)
