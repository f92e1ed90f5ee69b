"""One process that is kept running: started, watched, restarted with a growing pause, and stopped without leaving anything behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from llmhost.supervisor import listener as listening
from llmhost.supervisor import logfile
from llmhost.supervisor.backoff import BackOff
from llmhost.supervisor.live import LivePart
from llmhost.supervisor.prober import Prober, Reading
from llmhost.supervisor.process import describe_exit, kill_group
from llmhost.supervisor.spec import ChildSpec, Live, Probe

LAST_LINES = 5
AFTER_KILL_S = 2.0


def _nothing() -> None:
    """Nobody wants to know."""


class Child:
    """Keeps `spec` running from `start` to `stop`. All methods may be called from any thread.

    Its end is noticed at once, because a thread waits for it. `state` is one of `starting` (runs, has not answered yet), `up`,
    `degraded` (runs, does not answer), `restarting` (ended, waits for the next try), `failed` (ended too often in a row, still tried),
    `stopping`. `on_pid` is called whenever there is a new process.
    """

    def __init__(
        self,
        spec: ChildSpec,
        log_dir: Path,
        listener: socket.socket | None,
        events: logfile.EventLog,
        on_pid: Callable[[], None] = _nothing,
        back_off: BackOff | None = None,
        amend: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    ) -> None:
        self.spec = spec
        self.listener = listener
        self._port = listening.port_of(listener) if listener else None
        self.log_file = log_dir / f"{spec.name}.log"
        self._events = events
        self._on_pid = on_pid
        self._back_off = back_off or BackOff()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._since = datetime.now(UTC)
        self._next_try_at: datetime | None = None
        self._restarts = 0
        self._reason: str | None = None
        self._last_lines: list[str] = []
        self._answered = False
        self._thread = threading.Thread(target=self._run, name=f"child {spec.name}", daemon=True)
        self._live = LivePart(spec, amend)
        self.prober = self._make_prober()

    def start(self) -> None:
        self._thread.start()
        if self.prober:
            self.prober.start()

    def stop(self, grace_s: float) -> None:
        """SIGTERM, up to `grace_s` to finish, then SIGKILL to its whole group; returns when it is gone."""
        with self._lock:
            self._stop.set()
        if self._process is not None:
            self._signal(self._process, signal.SIGTERM)
        self._thread.join(grace_s)
        process = self._process
        if self._thread.is_alive() and process is not None:
            self._events.write("child_killed", child=self.spec.name, pid=process.pid, after_s=grace_s)
            kill_group(process.pid, signal.SIGKILL)
            self._thread.join(AFTER_KILL_S)
        if self.prober:
            self.prober.stop()

    def set_live(self, live: Live | None) -> None:
        """Another live part; a running process is told soon, and again until it took it."""
        if self._live.set(live):
            self.told_anew()

    def told_anew(self) -> None:
        """What the live part comes to may have changed."""
        if self.prober and not self._live.is_told():
            self.prober.kick()

    def reading(self) -> Any:
        """The child's own last word about itself, or None."""
        reading = self.prober.reading if self.prober else None
        return reading.data if reading and self.running() else None

    def running(self) -> bool:
        process = self._process
        return process is not None and process.returncode is None

    def pid(self) -> int | None:
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def view(self) -> dict[str, Any]:
        """What `status` shows; the reading is the child's own last word about itself, or None."""
        reading = self.prober.reading if self.prober else None
        with self._lock:
            return {
                "name": self.spec.name,
                "state": self._state(reading),
                "pid": self.pid(),
                "since": _rfc3339(self._since),
                "restarts": self._restarts,
                "reason": self._why(reading),
                "next_try_at": _rfc3339(self._next_try_at) if self._next_try_at else None,
                "last_lines": self._last_lines,
                "port": self._port,
                "reading": self.reading(),
            }

    def _state(self, reading: Reading | None) -> str:
        if self._stop.is_set():
            return "stopping"
        if not self.running():
            return "failed" if self._back_off.hopeless else "starting" if self._next_try_at is None else "restarting"
        if self.prober is None or (reading and reading.ok):
            return "up"
        return "degraded" if self._answered else "starting"

    def _why(self, reading: Reading | None) -> str | None:
        if self.running() and self._answered and reading and not reading.ok:
            return reading.error
        return self._reason

    def _make_prober(self) -> Prober | None:
        probe = self.spec.probe
        if probe is None:
            return None
        return Prober(probe, self._address(probe), self.running, self._heard)

    def _address(self, probe: Probe) -> str:
        return probe.address or f"{listening.HOST}:{self._port}"

    def _heard(self, reading: Reading) -> None:
        if reading.ok and self.spec.probe and not self._live.tell(self._address(self.spec.probe)):
            self._events.write("child_not_told", child=self.spec.name)
        if reading.ok and not self._answered:
            self._answered = True
            self._events.write("child_up", child=self.spec.name, pid=self.pid())
        process = self._process
        if reading.vanished and self._answered and process is not None and not self._stop.is_set():
            # Somebody cleaned the runtime folder (systemd does at logout): nobody can reach it any more, only a new one can.
            self._events.write("socket_vanished", child=self.spec.name)
            self._signal(process, signal.SIGTERM)

    def _run(self) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            reason = self._run_once()
            if self._stop.is_set():
                break
            self._pause(reason, time.monotonic() - began)
        for path in self.spec.sockets:
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._events.write("child_stopped", child=self.spec.name, restarts=self._restarts)

    def _run_once(self) -> str:
        """Start it and wait for its end; how it ended."""
        began = time.monotonic()
        try:
            process = self._spawn()
        except OSError as error:
            return f"cannot be started: {error.strerror or error}"
        self._begin(process)
        code = process.wait()
        kill_group(process.pid, signal.SIGKILL)  # what it started itself must not outlive it
        if process.stdin:
            with contextlib.suppress(OSError):
                process.stdin.close()
        return describe_exit(code, time.monotonic() - began)

    def _spawn(self) -> subprocess.Popen[bytes]:
        logfile.rotate(self.log_file)
        for path in self.spec.sockets:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # a leftover of a crash; nobody else may be there, because we hold the lock
        log = logfile.open_append(self.log_file)
        try:
            return subprocess.Popen(
                self.spec.argv,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.spec.env},
                cwd="/",
                pass_fds=(self.listener.fileno(),) if self.listener else (),
                process_group=0,
            )
        finally:
            os.close(log)

    def _begin(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._answered = False
            self._process = process
            self._since, self._next_try_at = datetime.now(UTC), None
            stopped = self._stop.is_set()
        if stopped:
            self._signal(process, signal.SIGTERM)
        self._send_config(process)  # `stop` knows the process by now: one that reads nothing must not hold us for ever
        self._on_pid()
        self._events.write("child_started", child=self.spec.name, pid=process.pid, restarts=self._restarts)
        if self.prober:
            self.prober.forget()

    def _send_config(self, process: subprocess.Popen[bytes]) -> None:
        if self.spec.config is None or process.stdin is None:
            return
        config = {**self.spec.config, **self._live.begin()}
        if self.listener:
            config["fd"] = self.listener.fileno()
        with contextlib.suppress(OSError):  # it ended at once: its exit code says more than our broken pipe
            process.stdin.write(json.dumps(config).encode() + b"\n")
            process.stdin.flush()

    def _pause(self, reason: str, uptime_s: float) -> None:
        delay = self._back_off.next_delay(uptime_s)
        with self._lock:
            self._restarts += 1
            self._reason = reason
            self._last_lines = logfile.tail(self.log_file, LAST_LINES)
            self._since = datetime.now(UTC)
            self._next_try_at = self._since + timedelta(seconds=delay)
        self._events.write(
            "child_ended",
            child=self.spec.name,
            reason=reason,
            restarts=self._restarts,
            next_try_s=delay,
            hopeless=self._back_off.hopeless,
        )
        self._stop.wait(delay)

    def _signal(self, process: subprocess.Popen[bytes], number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
