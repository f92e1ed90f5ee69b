"""Finds the supervisor, starts it, or replaces one of another version: all through the one lock."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import llmhost
from llmhost.core.errors import LlmhostError
from llmhost.core.paths import Paths
from llmhost.supervisor import lock, logfile
from llmhost.supervisor.client import SupervisorClient, SupervisorEnded, SupervisorSilent, connect
from llmhost.supervisor.environment import clean_environment
from llmhost.supervisor.process import end_orphans, is_ours, wait_gone

START_S = 5.0
RETRY_S = 0.02
# How long running requests may go on when a new version takes over; new ones wait in the port's queue meanwhile.
DRAIN_S = 60.0
STOP_MARGIN_S = 10.0
ORPHAN_S = 3.0
HEAL_S = 3.0  # a supervisor whose socket file was removed binds it again within a second
LOG_LINES = 15

Note = Callable[[str], None]


def supervisor_argv(module: str, paths: Paths, lock_fd: int, ready_fd: int, listener_fds: list[int]) -> list[str]:
    """The command line; nothing secret in it. `-P` keeps the working directory out of the import path."""
    argv = [sys.executable, "-P", "-m", module]
    argv += ["--lock", str(paths.supervisor_lock.absolute()), "--socket", str(paths.control_socket.absolute())]
    argv += ["--logs", str(paths.log_dir.absolute()), "--lock-fd", str(lock_fd), "--ready-fd", str(ready_fd)]
    for descriptor in listener_fds:
        argv += ["--listener-fd", str(descriptor)]
    return argv


def find_supervisor(paths: Paths, timeout_s: float = 0.3) -> SupervisorClient | None:
    """A connection to the running supervisor of any version, or None. Starts nothing, writes nothing."""
    return connect(paths.control_socket, timeout_s)


def is_running(paths: Paths) -> bool:
    """Whether a supervisor of any version can be connected to."""
    client = find_supervisor(paths)
    if client is None:
        return False
    client.close()
    return True


def ensure_supervisor(
    paths: Paths, note: Note | None = None, *, module: str = "llmhost.supervisor"
) -> SupervisorClient:
    """A connection to a supervisor of our own version, started or replaced if need be. Raises LlmhostError (`supervisor_failed`, …).

    `module` is the program to start: the plain one, or one that runs more than children.
    """
    paths.create()
    deadline = time.monotonic() + START_S
    while True:
        client = connect(paths.control_socket)
        if client is not None:
            usable, stopping = _greet(paths, client, note, module)
            if usable:
                return usable
            deadline = time.monotonic() + (DRAIN_S + STOP_MARGIN_S if stopping else START_S)
        else:
            descriptor = lock.try_lock(paths.supervisor_lock)
            if descriptor is not None:
                await_orphans(paths)
                return _start(module, paths, descriptor, [])
        if time.monotonic() > deadline:
            raise _held(paths)
        time.sleep(RETRY_S)


def end_supervisor(
    client: SupervisorClient, grace_s: dict[str, float] | None = None, timeout_s: float = 30.0
) -> list[int]:
    """Ask it to stop and wait; one that does not is killed (its children end with it). The processes that still run after that."""
    pids = [client.pid]
    try:
        pids = client.ask("stop", grace_s=grace_s or {})["pids"]
    except SupervisorSilent:
        timeout_s = 0.0
    except SupervisorEnded:
        pass
    except LlmhostError as error:
        if error.code != "stopping":
            raise
    if not client.wait_end(timeout_s) and client.pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(client.pid, signal.SIGKILL)
    return wait_gone([pid for pid in pids if pid], STOP_MARGIN_S)


def await_orphans(paths: Paths) -> list[int]:
    """After a crash: wait until the children of the one that is gone are, too, so that they hold no port and remove no socket of ours.

    They end by themselves when their standard input does; one that does not is killed. The lock must be held. Returns those still there.
    """
    holder = lock.read_holder(paths.supervisor_lock)
    if holder is None or lock.before_boot(holder):
        return []
    return end_orphans(holder.children, holder.births, ORPHAN_S)


def end_holder(paths: Paths) -> list[int]:
    """End a supervisor that holds the lock but cannot be connected to. The processes that still run after that."""
    deadline = time.monotonic() + HEAL_S
    while lock.is_locked(paths.supervisor_lock):
        client = connect(paths.control_socket)
        if client is not None:
            with client:
                return end_supervisor(client)
        if time.monotonic() > deadline:
            return _kill_holder(paths)
        time.sleep(RETRY_S)
    return []


def _kill_holder(paths: Paths) -> list[int]:
    holder = lock.read_holder(paths.supervisor_lock)
    # The text may be an older holder's: whoever has just taken the lock writes it a moment later.
    if holder is None or lock.before_boot(holder) or not is_ours(holder.pid, holder.births.get(holder.pid)):
        raise _held(paths)
    with contextlib.suppress(ProcessLookupError):
        os.kill(holder.pid, signal.SIGKILL)
    return wait_gone([holder.pid], STOP_MARGIN_S)


def _greet(
    paths: Paths, client: SupervisorClient, note: Note | None, module: str
) -> tuple[SupervisorClient | None, bool]:
    """The client to use, or None and whether the one we met is on its way out."""
    try:
        hello = client.ask("hello")
    except SupervisorEnded:
        client.close()
        return None, False
    except LlmhostError:
        client.close()
        raise
    if hello["stopping"]:
        client.wait_end(RETRY_S)
        client.close()
        return None, True
    if hello["version"] == llmhost.__version__:
        return client, False
    return _replace(paths, client, hello["version"], note, module), True


def _replace(
    paths: Paths, client: SupervisorClient, version: str, note: Note | None, module: str
) -> SupervisorClient | None:
    if note:
        note(
            f"replacing the running supervisor {version} by {llmhost.__version__}; requests in flight may finish first"
        )
    try:
        descriptors = client.handover({"gateway": DRAIN_S})
    except LlmhostError as error:
        client.close()
        if error.code == "stopping":  # another client was faster
            return None
        raise
    with client, contextlib.ExitStack() as received:
        for descriptor in descriptors:
            received.callback(os.close, descriptor)
        if not client.wait_end(DRAIN_S + STOP_MARGIN_S) and client.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(client.pid, signal.SIGKILL)
            await_orphans(paths)
        received.pop_all()
    return _start(module, paths, descriptors[0], descriptors[1:])


def _start(module: str, paths: Paths, lock_fd: int, listener_fds: list[int]) -> SupervisorClient:
    """Start one that inherits the lock we hold; our own copies are closed whatever happens."""
    log = paths.log_file("supervisor")
    read_end, write_end = os.pipe()
    with contextlib.ExitStack() as closing:
        for descriptor in (read_end, lock_fd, *listener_fds):
            closing.callback(os.close, descriptor)
        with _closed_after(write_end):
            argv = supervisor_argv(module, paths, lock_fd, write_end, listener_fds)
            _spawn(argv, [lock_fd, write_end, *listener_fds], log)
        if not _hears(read_end):
            raise _start_failed(log)
    client = connect(paths.control_socket)
    if client is None:
        raise _start_failed(log)
    return client


def _spawn(argv: list[str], descriptors: list[int], log: Path) -> None:
    logfile.rotate(log)
    output = logfile.open_append(log)
    try:
        # Ends at once: the process forks the real supervisor, which so is no child of ours.
        subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=clean_environment(dict(os.environ)),
            start_new_session=True,
            pass_fds=descriptors,
            check=False,
            timeout=START_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _start_failed(log, str(error)) from error
    finally:
        os.close(output)


@contextlib.contextmanager
def _closed_after(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


def _hears(read_end: int) -> bool:
    """Whether the supervisor said it is ready; its death ends the pipe, so a failure is known at once too."""
    readable, _, _ = select.select([read_end], [], [], START_S)
    return bool(readable) and bool(os.read(read_end, 64))


def _start_failed(log: Path, why: str = "") -> LlmhostError:
    shown = "\n".join(f"  {line}" for line in logfile.tail(log, LOG_LINES)) or "  (nothing)"
    reason = f": {why}" if why else ""
    return LlmhostError(
        f"the background supervisor did not start{reason}. The end of its log {log}:\n{shown}",
        hint="See what is wrong: llmhost doctor",
        code="supervisor_failed",
    )


def _held(paths: Paths) -> LlmhostError:
    holder = lock.read_holder(paths.supervisor_lock)
    who = f"process {holder.pid}" if holder else "a process"
    return LlmhostError(
        f"{who} holds {paths.supervisor_lock} but does not answer on {paths.control_socket}.",
        hint="Stop it, whatever it does: llmhost down",
        code="supervisor_silent",
    )
