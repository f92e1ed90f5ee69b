"""The one background process of a state directory.

It runs the children it is told to run and answers what it knows of them. It holds the lock for its whole life and knows no settings: a
client gives it finished specs. When it is killed, every child ends by itself, because its standard input does.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import llmhost
from llmhost.core.errors import LlmhostError
from llmhost.core.gpu import GpuWatch
from llmhost.supervisor import lock
from llmhost.supervisor.children import Children
from llmhost.supervisor.control import ControlServer, Reply
from llmhost.supervisor.logfile import EventLog
from llmhost.supervisor.part import MakePart, Surroundings, no_part
from llmhost.supervisor.process import birth_of
from llmhost.supervisor.spec import ChildSpec

REFRESH_S = 0.08
READY = b"ready\n"


@dataclass(frozen=True, slots=True)
class Places:
    """The files of this supervisor."""

    lock: Path
    socket: Path
    logs: Path


class Supervisor:
    """Children, control socket and lock, from `run` to its end."""

    def __init__(
        self, places: Places, lock_fd: int, adopted: list[socket.socket], make_part: MakePart = no_part
    ) -> None:
        self._places = places
        self._lock_fd = lock_fd
        self._events = EventLog(places.logs / "supervisor.log")
        self._children = Children(places.logs, self._events, self._write_holder, adopted)
        self._gpu = GpuWatch()
        self._started_at = time.time()
        self._ended = threading.Event()
        self._wake_read, self._wake_write = os.pipe()
        self._end_reason = ""
        self._handed_over = False
        self._leaving = False
        self._deciding = threading.Lock()
        self._writing = threading.Lock()
        self._grace_s: dict[str, float] = {}
        here = Surroundings(places.socket.parent, places.logs, self._events, self._children, self._write_holder)
        self._part = make_part(here)
        self._control = ControlServer(places.socket, self.handle, self._events)

    def run(self, ready: int | None = None) -> None:
        """Serve until told to stop. `ready` is a descriptor that hears of success."""
        self._write_holder()
        self._take_signals()
        self._children.start()
        self._part.start()
        self._gpu.start()
        self._control.start()
        self._events.write("supervisor_started", pid=os.getpid(), version=llmhost.__version__)
        if ready is not None:
            _say(ready)
        while not self._ended.is_set():
            os.read(self._wake_read, 64)
        self._close()

    def _write_holder(self) -> None:
        """Who we are and whom we run, for whoever finds the lock file after we were killed."""
        if not self._handed_over:
            pid, pids = os.getpid(), tuple(self._pids())
            births = {one: birth for one in (pid, *pids) if (birth := birth_of(one))}
            with self._writing:
                lock.write_holder(self._lock_fd, lock.Holder(pid, llmhost.__version__, self._started_at, pids, births))

    def handle(self, message: dict[str, Any]) -> Reply:
        """Answer one request of the control socket (protocol.py)."""
        operation = message["op"]
        if operation == "hello":
            return Reply(self._hello())
        if operation == "status":
            return self._status()
        if operation == "wanted":
            wanted = [spec.as_dict() for spec in self._children.wanted()]
            return Reply({"ok": True, "children": wanted, **self._part.wanted()})
        if operation == "apply":
            return self._apply(message)
        if operation in ("stop", "handover"):
            return self._leave(operation, message)
        reply = self._part.handle(operation, message)
        if reply is not None:
            return Reply({"ok": True, **reply})
        raise LlmhostError(f"this supervisor ({llmhost.__version__}) does not know {operation!r}.", code="bad_request")

    def _hello(self) -> dict[str, Any]:
        known = {"version": llmhost.__version__, "pid": os.getpid(), "started_at": self._started_at}
        return {"ok": True, **known, "stopping": self._leaving or self._ended.is_set()}

    def _status(self) -> Reply:
        deadline = time.monotonic() + REFRESH_S
        self._part.ask_anew()
        children = self._children.view(REFRESH_S)
        known = {"children": children, "gpu": self._gpu.figures(), **self._part.view(deadline)}
        return Reply({**self._hello(), **known})

    def _apply(self, message: dict[str, Any]) -> Reply:
        if self._leaving or self._ended.is_set():
            raise _stopping()
        keep = bool(message.get("keep"))
        apply_part = self._part.prepare(message, keep)  # whatever is wrong with it is told before anything has changed
        result: dict[str, Any] = {}
        if apply_part is None or message.get("children") is not None:
            result = self._children.apply([ChildSpec.from_dict(one) for one in message["children"]], keep=keep)
        result |= apply_part() if apply_part else {}
        self._events.write("applied", **result)
        return Reply({"ok": True, **result})

    def _pids(self) -> list[int]:
        return [*self._children.pids(), *self._part.pids()]

    def _leave(self, operation: str, message: dict[str, Any]) -> Reply:
        """From now on nobody else may ask for it; it begins when the answer is sent. Whoever is gone by then changes nothing."""
        grace_s = {str(name): float(seconds) for name, seconds in (message.get("grace_s") or {}).items()}
        with self._deciding:
            if self._leaving or self._ended.is_set():
                raise _stopping()
            self._leaving, self._handed_over = True, operation == "handover"
        listeners = self._children.listeners() if self._handed_over else []
        descriptors = [self._lock_fd, *(one.fileno() for one in listeners)] if self._handed_over else []
        reply = {"ok": True, "pids": [os.getpid(), *self._pids()]}
        return Reply(reply, descriptors, lambda: self._end(operation, grace_s), self._stay)

    def _stay(self) -> None:
        with self._deciding:
            self._leaving = self._handed_over = False

    def _end(self, reason: str, grace_s: dict[str, float]) -> None:
        self._end_reason, self._grace_s = reason, grace_s
        self._ended.set()
        os.write(self._wake_write, b"\0")

    def _take_signals(self) -> None:
        # The kernel may give a signal to any thread, which would not wake the main one from a lock: hence the pipe.
        os.set_blocking(self._wake_write, False)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._end(signal.Signals(number).name, {})

    def _close(self) -> None:
        self._events.write("supervisor_stopping", reason=self._end_reason)
        self._children.close(self._grace_s)
        self._part.close()  # after the children: what they do to the end goes through it
        self._gpu.stop()
        self._control.unlink()
        self._events.write(
            "supervisor_stopped", reason=self._end_reason, uptime_s=round(time.time() - self._started_at, 1)
        )
        if not self._handed_over:
            lock.remove(self._places.lock, self._lock_fd)


def _stopping() -> LlmhostError:
    return LlmhostError("the supervisor is stopping.", code="stopping")


def _say(ready: int) -> None:
    with contextlib.suppress(OSError):
        os.write(ready, READY)
    os.close(ready)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m llmhost.supervisor")
    parser.add_argument("--lock", type=Path, required=True)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--logs", type=Path, required=True)
    parser.add_argument("--lock-fd", type=int, help="descriptor of the lock, held by the client that starts us")
    parser.add_argument("--ready-fd", type=int, help="descriptor to write to when requests are answered")
    parser.add_argument(
        "--listener-fd", type=int, action="append", default=[], help="listening sockets of the one we replace"
    )
    return parser.parse_args(argv)


def _keep_from_children(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)


def _detach() -> None:
    """Leave the client: it waits for this process only, and the supervisor is nobody's child."""
    if os.fork():
        os._exit(0)


def main(argv: list[str], make_part: MakePart = no_part) -> int:
    """Run one until its end; the exit code. `make_part` makes what it does beside running children."""
    arguments = _arguments(argv)
    given = [one for one in (arguments.lock_fd, arguments.ready_fd, *arguments.listener_fd) if one is not None]
    _keep_from_children(given)
    lock_fd = arguments.lock_fd if arguments.lock_fd is not None else lock.try_lock(arguments.lock)
    if lock_fd is None:
        sys.stderr.write(f"another supervisor holds {arguments.lock}\n")
        return 1
    if arguments.ready_fd is not None:
        _detach()
    adopted = [socket.socket(fileno=descriptor) for descriptor in arguments.listener_fd]
    places = Places(arguments.lock, arguments.socket, arguments.logs)
    try:
        supervisor = Supervisor(places, lock_fd, adopted, make_part)
    except OSError as error:
        sys.stderr.write(f"cannot bind {places.socket}: {error.strerror or error}\n")
        lock.remove(places.lock, lock_fd)
        return 1
    supervisor.run(arguments.ready_fd)
    return 0


def run_program(argv: list[str], make_part: MakePart = no_part) -> None:
    """The end of the process: connections end with it, which is what a client waits for, so no thread may hold it up."""
    code = main(argv, make_part)
    sys.stdout.flush()
    os._exit(code)
