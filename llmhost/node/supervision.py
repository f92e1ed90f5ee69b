"""The node's supervisor: one of this very release, started or replaced if need be, by one caller at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llmhost.core.errors import LlmhostError
from llmhost.core.paths import Paths
from llmhost.node import early, release
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
QUIET_S = 30.0
LOOK_S = 0.2


@contextmanager
def turn(layout: Layout) -> Iterator[None]:
    """Hold the right to change what runs. Raises LlmhostError (`node_busy`, `node_not_installed`, `state_unwritable`)."""
    if not os.path.isdir(release.own_lib()):
        raise _removed(layout)
    layout.create()
    descriptor = os.open(layout.turn_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _wait_for(descriptor)
        if not _still_named(descriptor, layout):
            raise _removed(layout)
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


def _still_named(descriptor: int, layout: Layout) -> bool:
    """Whether the file that was locked is still the node's: whoever held it before may have removed the node."""
    try:
        return os.path.samestat(os.fstat(descriptor), layout.turn_file.stat())
    except OSError:
        return False


def _removed(layout: Layout) -> LlmhostError:
    return LlmhostError(
        f"the node in {layout.folder} was removed meanwhile.",
        hint="Set it up again: llmhost up",
        code="node_not_installed",
    )


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

    One of another release is told to stop first, because it owns the Ollama that its proxy's answers come from. From then on new requests
    are refused (the gateway holds them for a while) and the answers under way are finished: so it begins, if it can, when there are none.
    """
    early.end(layout)
    how = "started"
    client = find_supervisor(layout.paths, ANSWER_S)
    if client is not None:
        if release.running_lib(layout, client.pid) == release.own_lib():
            return Found(client, "kept")
        how = "replaced"
        with client:
            _await_quiet(client)
            end_supervisor(client, {PROXY: DRAIN_S}, DRAIN_S + STOP_MARGIN_S)
    client = ensure_supervisor(layout.paths)
    release.write_down(layout, client.pid)
    return Found(client, how)


def _await_quiet(client: SupervisorClient) -> None:
    """Between two requests, if there is such a moment within QUIET_S."""
    deadline = time.monotonic() + QUIET_S
    with contextlib.suppress(LlmhostError):  # one that does not answer is ended all the same
        while time.monotonic() < deadline and _in_flight(client.ask("status")["children"]):
            time.sleep(LOOK_S)


def _in_flight(children: Iterable[dict[str, Any]]) -> int:
    requests = [((child.get("reading") or {}).get("requests") or {}) for child in children if child["name"] == PROXY]
    return sum(int(one.get("in_flight") or 0) for one in requests)


def end(layout: Layout) -> list[int]:
    """Stop the supervisor and all it runs; the turn must be held. The processes that run even so."""
    early.end(layout)
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
