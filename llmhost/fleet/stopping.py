"""The end of what runs on this machine: the supervisor with everything under it, also after it was killed."""

from __future__ import annotations

import contextlib

from llmhost.core.errors import LlmhostError
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.supervisor import lock
from llmhost.supervisor.launch import await_orphans, end_holder, end_supervisor, find_supervisor

STOP_S = 20.0


def stop_all(paths: Paths, progress: Progress) -> list[int]:
    """Stop the supervisor, and clean up after one that was killed. The processes that still run."""
    client = find_supervisor(paths)
    if client is None:
        left = end_holder(paths)
    else:
        progress.phase("stop", "stopping; requests in flight may finish first")
        with client:
            left = end_supervisor(client, timeout_s=STOP_S)
    return left + _clean(paths)


def not_stopped(left: list[int]) -> list[LlmhostError]:
    """The error about processes that did not end."""
    if not left:
        return []
    shown = ", ".join(map(str, left))
    hint = f"kill -9 {shown.replace(',', '')}"
    return [LlmhostError(f"processes {shown} did not end.", hint=hint, code="not_stopped")]


def _clean(paths: Paths) -> list[int]:
    """After a supervisor that was killed: wait for its children, then remove its lock file and sockets, which nobody uses then.

    One that stopped in order may leave a socket, too: of a link that was about to come up when it was told to.
    """
    if not paths.supervisor_lock.exists() and not any(paths.runtime_dir.glob("*.sock")):
        return []
    try:
        descriptor = lock.try_lock(paths.supervisor_lock)
    except LlmhostError:
        # Nobody can start one here either, and what cannot be written keeps nothing from being ended.
        return [] if lock.is_locked(paths.supervisor_lock) else await_orphans(paths)
    if descriptor is None:
        return []  # somebody has just started a new one
    left = await_orphans(paths)
    with contextlib.suppress(OSError):
        for path in (paths.control_socket, *paths.runtime_dir.glob("*.sock")):
            path.unlink(missing_ok=True)
    lock.remove(paths.supervisor_lock, descriptor)
    return left
