"""One `up` over SSH, or one `down`, at a time: two at once would take the same node ids, or build up what is being torn down."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import llmhost
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.supervisor import lock
from llmhost.supervisor.process import birth_of

POLL_S = 0.1
NAME = "up.lock"


@contextlib.contextmanager
def my_turn(paths: Paths, progress: Progress, *, interrupt: bool = False) -> Iterator[None]:
    """Wait until nobody else of this state directory is at work; the end of a process, however it ends, is the end of its turn.

    `interrupt` = do as Ctrl-C would to who is at work, which undoes what it began. Raises LlmhostError (`state_unwritable`).
    """
    paths.create()
    path = paths.state_dir / NAME
    told = False
    while (descriptor := lock.try_lock(path)) is None:
        if not told:
            told = _tell(path, progress, interrupt=interrupt)
        time.sleep(POLL_S)
    lock.write_holder(descriptor, _myself())
    try:
        yield
    finally:
        lock.remove(path, descriptor)


@contextlib.contextmanager
def try_turn(paths: Paths) -> Iterator[bool]:
    """Take the turn if nobody has it, without waiting; whether it is ours now. Raises LlmhostError (`state_unwritable`)."""
    path = paths.state_dir / NAME
    descriptor = lock.try_lock(path)
    if descriptor is None:
        yield False
        return
    lock.write_holder(descriptor, _myself())
    try:
        yield True
    finally:
        lock.remove(path, descriptor)


def is_taken(paths: Paths) -> bool:
    """Whether somebody is at work now. Waits for nothing and creates nothing."""
    return lock.is_locked(paths.state_dir / NAME)


def _tell(path: Path, progress: Progress, *, interrupt: bool) -> bool:
    """Say who is waited for. False = not known yet."""
    holder = lock.read_holder(path)
    if holder is None or birth_of(holder.pid) != holder.births.get(holder.pid):
        return False
    doing = "interrupting" if interrupt else "waiting for"
    progress.phase("turn", f"{doing} another llmhost command that is at work (process {holder.pid})")
    if interrupt:
        with contextlib.suppress(OSError):
            os.kill(holder.pid, signal.SIGINT)
    return True


def _myself() -> lock.Holder:
    pid = os.getpid()
    return lock.Holder(pid, llmhost.__version__, time.time(), births={pid: birth_of(pid) or ""})
