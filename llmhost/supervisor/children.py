"""All children of the supervisor: what is wanted, what runs, and the one thread that brings the second to the first."""

from __future__ import annotations

import contextlib
import functools
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmhost.core.errors import LlmhostError
from llmhost.supervisor import listener as listening
from llmhost.supervisor import logfile
from llmhost.supervisor.child import Child
from llmhost.supervisor.spec import ChildSpec

HOUSEKEEPING_S = 10.0
Amend = Callable[[str, dict[str, Any]], dict[str, Any]]


def _as_it_is(name: str, body: dict[str, Any]) -> dict[str, Any]:
    return body


@dataclass(frozen=True, slots=True)
class _Wanted:
    spec: ChildSpec
    listener: socket.socket | None

    def is_running_as(self, child: Child) -> bool:
        """Whether that process is what is wanted; its live part may differ."""
        return child.listener is self.listener and child.spec.without_listen() == self.spec.without_listen()


class Children:
    """Wanted children, in starting order. They are stopped in the opposite order, so that the gateway drains before its node goes."""

    def __init__(
        self, log_dir: Path, events: logfile.EventLog, on_pid: Callable[[], None], adopted: Iterable[socket.socket] = ()
    ) -> None:
        self._on_pid = on_pid
        self._log_dir = log_dir
        self._events = events
        self._adopted = list(adopted)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._wanted: dict[str, _Wanted] = {}
        self._running: dict[str, Child] = {}
        self._retired: list[socket.socket] = []
        self._closing = False
        self._grace_s: dict[str, float] = {}
        self._amend: Amend = _as_it_is
        self._thread = threading.Thread(target=self._run, name="children", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def amend_live(self, amend: Amend) -> None:
        """Let the live part of every child be what `amend` makes of it. Call `live_changed` whenever that is something else."""
        self._amend = amend

    def live_changed(self) -> None:
        """Tell every child that takes it what its live part is now, unless it knows. Does not wait."""
        with self._lock:
            running = list(self._running.values())
        for child in running:
            child.told_anew()

    def readings(self) -> dict[str, Any]:
        """By name, what each child said of itself last."""
        with self._lock:
            return {name: child.reading() for name, child in self._running.items()}

    def apply(self, specs: list[ChildSpec], *, keep: bool = False) -> dict[str, Any]:
        """Want exactly these. With `keep`, those already wanted under the same name stay as they are.

        Ports are bound here, so that a taken one is told at once and nothing has changed; everything else happens in the background.
        Returns the names by what becomes of them, and the ports. Raises LlmhostError.
        """
        with self._changed:
            if self._closing:
                raise LlmhostError("the supervisor is stopping.", code="stopping")
            before = self._wanted
            after = self._resolve(specs, keep)
            self._wanted = after
            self._retire_listeners(before)
            self._pass_on_live()
            self._changed.notify_all()
            return _difference(before, after)

    def _pass_on_live(self) -> None:
        for name, child in self._running.items():
            wanted = self._wanted.get(name)
            if wanted is not None and wanted.is_running_as(child):
                child.set_live(wanted.spec.live)

    def close(self, grace_s: dict[str, float] | None = None) -> None:
        """Want nothing any more, and wait until all are gone. `grace_s` overrides the children's own, by name."""
        with self._changed:
            before, self._wanted = self._wanted, {}
            self._closing = True
            self._grace_s = grace_s or {}
            self._retire_listeners(before)
            self._changed.notify_all()
        self._thread.join()

    @property
    def closing(self) -> bool:
        return self._closing

    def listeners(self) -> list[socket.socket]:
        """The bound ports, to be handed to a successor."""
        with self._lock:
            return [wanted.listener for wanted in self._wanted.values() if wanted.listener]

    def wanted(self) -> list[ChildSpec]:
        """What is wanted now, in starting order; a port that was not asked for by name is the one that was found."""
        with self._lock:
            return [_with_bound_port(wanted) for wanted in self._wanted.values()]

    def pids(self) -> list[int]:
        with self._lock:
            return [pid for child in self._running.values() if (pid := child.pid())]

    def view(self, refresh_s: float) -> list[dict[str, Any]]:
        """Every wanted or still running child, after asking them all anew for at most `refresh_s`."""
        with self._lock:
            wanted, running = dict(self._wanted), dict(self._running)
        _refresh(running.values(), refresh_s)
        names = list(wanted) + [name for name in running if name not in wanted]
        return [self._view_one(name, wanted.get(name), running.get(name)) for name in names]

    def _view_one(self, name: str, wanted: _Wanted | None, child: Child | None) -> dict[str, Any]:
        if child is not None and (wanted is None or wanted.is_running_as(child)):
            return child.view()
        port = _port(wanted)
        waiting = {"name": name, "state": "starting", "pid": None, "since": None, "restarts": 0, "reason": None}
        return {**waiting, "next_try_at": None, "last_lines": [], "port": port, "reading": None}

    def _resolve(self, specs: list[ChildSpec], keep: bool) -> dict[str, _Wanted]:
        found: dict[str, _Wanted] = {}
        with contextlib.ExitStack() as undo:
            for spec in specs:
                current = self._wanted.get(spec.name)
                if current and keep:
                    found[spec.name] = current
                    continue
                found[spec.name] = _Wanted(spec, self._listener(spec, current, undo))
            undo.pop_all()
        return found

    def _listener(self, spec: ChildSpec, current: _Wanted | None, undo: contextlib.ExitStack) -> socket.socket | None:
        if spec.listen is None:
            return None
        own = [current.listener] if current and current.listener else []
        for bound in own + self._adopted:
            if listening.satisfies(bound, spec.listen):
                return bound
        return undo.enter_context(listening.bind(spec.listen))

    def _retire_listeners(self, before: dict[str, _Wanted]) -> None:
        kept = [wanted.listener for wanted in self._wanted.values()]
        old = [wanted.listener for wanted in before.values() if wanted.listener] + self._adopted
        self._retired += [listener for listener in old if not any(listener is one for one in kept)]
        self._adopted = []

    def _run(self) -> None:
        while True:
            self._converge()
            with self._changed:
                if self._closing and not self._running:
                    return
                self._changed.wait_for(self._to_do, HOUSEKEEPING_S)
            for child in list(self._running.values()):
                logfile.rotate(child.log_file)

    def _to_do(self) -> bool:
        missing = any(name not in self._running for name in self._wanted)
        return missing or bool(self._surplus()) or (self._closing and not self._running)

    def _surplus(self) -> list[str]:
        return [
            name
            for name, child in reversed(self._running.items())
            if name not in self._wanted or not self._wanted[name].is_running_as(child)
        ]

    def _converge(self) -> None:
        """Stop one at a time what is too much, then start what is missing."""
        while True:
            with self._lock:
                surplus = self._surplus()
                child = self._running[surplus[0]] if surplus else None
            if child is None:
                break
            child.stop(self._grace_s.get(child.spec.name, child.spec.grace_s))
            with self._lock:
                del self._running[child.spec.name]
        with self._lock:
            while self._retired:
                self._retired.pop().close()
            for name, wanted in self._wanted.items():
                if name not in self._running:
                    self._start(name, wanted)

    def _start(self, name: str, wanted: _Wanted) -> None:
        amend = functools.partial(self._amend, name)
        child = Child(wanted.spec, self._log_dir, wanted.listener, self._events, self._on_pid, amend=amend)
        # The order of `_running` is the order of `_wanted` only while nothing was replaced; a replaced node must come before the gateway.
        self._running[name] = child
        order = list(self._wanted)
        self._running = dict(
            sorted(self._running.items(), key=lambda item: order.index(item[0]) if item[0] in order else -1)
        )
        child.start()


def _with_bound_port(wanted: _Wanted) -> ChildSpec:
    if wanted.spec.listen is None or wanted.listener is None:
        return wanted.spec
    return replace(wanted.spec, listen=replace(wanted.spec.listen, port=listening.port_of(wanted.listener)))


def _port(wanted: _Wanted | None) -> int | None:
    return listening.port_of(wanted.listener) if wanted and wanted.listener else None


def _refresh(children: Iterable[Child], budget_s: float) -> None:
    deadline = time.monotonic() + budget_s
    kicked = [(child.prober, child.prober.kick()) for child in children if child.prober and child.running()]
    for prober, since in kicked:
        prober.wait_newer(since, deadline)


def _difference(before: dict[str, _Wanted], after: dict[str, _Wanted]) -> dict[str, Any]:
    def same(name: str) -> bool:
        old, new = before[name], after[name]
        return old.listener is new.listener and old.spec.without_listen() == new.spec.without_listen()

    both = [name for name in after if name in before]
    return {
        "started": [name for name in after if name not in before],
        "replaced": [name for name in both if not same(name)],
        "kept": [name for name in both if same(name)],
        "told": [name for name in both if same(name) and before[name].spec.live != after[name].spec.live],
        "removed": [name for name in before if name not in after],
        "ports": {name: listening.port_of(one.listener) for name, one in after.items() if one.listener},
    }
