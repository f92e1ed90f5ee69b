"""The node's supervisor: one of this very release, started or replaced if need be, by one caller at a time."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from llmhost.core.errors import LlmhostError
from llmhost.core.paths import Paths
from llmhost.node import release
from llmhost.node.layout import Layout
from llmhost.node.services import DRAIN_S, PROXY
from llmhost.supervisor import lock
from llmhost.supervisor.client import SupervisorClient
from llmhost.supervisor.launch import (
    STOP_MARGIN_S,
    await_orphans,
    end_holder,
    end_supervisor,
    ensure_supervisor,
    find_supervisor,
)

ANSWER_S = 2.0
STOP_GRACE_S = {PROXY: 5.0}
TURN_S = 150.0  # the one before may wait for answers under way
POLL_S = 0.05


@contextmanager
def turn(layout: Layout) -> Iterator[None]:
    """Hold the right to change what runs. Raises LlmhostError (`node_busy`, `state_unwritable`)."""
    layout.create()
    descriptor = os.open(layout.turn_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for(descriptor)
        yield
    finally:
        os.close(descriptor)


def _wait_for(descriptor: int) -> None:
    deadline = time.monotonic() + TURN_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise _busy() from None
            time.sleep(POLL_S)


def _busy() -> LlmhostError:
    return LlmhostError(
        f"another command has been changing this node for more than {TURN_S:.0f} s.",
        hint="See what runs there: llmhost status",
        code="node_busy",
    )


@dataclass(frozen=True, slots=True)
class Found:
    """A connection to the supervisor, and what became of it: `started`, `replaced` or `kept`."""

    client: SupervisorClient
    how: str


def ensure(layout: Layout) -> Found:
    """A supervisor of this release; the turn must be held. Raises LlmhostError (`supervisor_failed`, `supervisor_silent`, …).

    One of another release is told to stop first: no port of its own has to be kept open meanwhile, as the gateway's has, and its proxy
    finishes the answers under way.
    """
    how = "started"
    client = find_supervisor(layout.paths, ANSWER_S)
    if client is not None:
        if release.running_lib(layout, client.pid) == release.own_lib():
            return Found(client, "kept")
        how = "replaced"
        with client:
            end_supervisor(client, {PROXY: DRAIN_S}, DRAIN_S + STOP_MARGIN_S)
    client = ensure_supervisor(layout.paths)
    release.write_down(layout, client.pid)
    return Found(client, how)


def end(layout: Layout) -> list[int]:
    """Stop the supervisor and all it runs; the turn must be held. The processes that run even so."""
    paths = layout.paths
    client = find_supervisor(paths, ANSWER_S)
    left = []
    if client is not None:
        with client:
            left = end_supervisor(client, STOP_GRACE_S)
    elif lock.is_locked(paths.supervisor_lock):
        left = end_holder(paths)
    return left + _end_orphans(paths)


def _end_orphans(paths: Paths) -> list[int]:
    """What a supervisor that was killed leaves ends by itself; whatever does not is killed."""
    descriptor = lock.try_lock(paths.supervisor_lock)
    if descriptor is None:
        return []
    try:
        return await_orphans(paths)
    finally:
        lock.remove(paths.supervisor_lock, descriptor)
