"""Commands of llmhost as processes that a test can watch, interrupt and kill, forked by `forker`."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.claude import Run
from tests.support.system import wait_until

START_S, PATIENCE_S = 60.0, 60.0


@dataclass
class Running:
    """One command. `ended` is set with the exit code (negative: the signal that ended it)."""

    out: Path
    err: Path
    pid: int = 0
    code: int | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def wait(self, seconds: float = PATIENCE_S) -> Run:
        """What came of it; one that does not end in time is killed, and fails the test."""
        if not self.ended.wait(seconds):
            self.send(signal.SIGKILL)
            raise AssertionError(f"llmhost did not end in {seconds:.0f} s\n{self.said()}")
        assert self.code is not None
        return Run(self.code, self.out.read_text(), self.said())

    def send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def kill(self) -> None:
        """As `kill -9`; it is gone when this returns."""
        self.send(signal.SIGKILL)
        self.wait()

    def said(self) -> str:
        """What it told on standard error so far."""
        return self.err.read_text(errors="replace") if self.err.exists() else ""

    def until_said(self, text: str, seconds: float = 30.0) -> None:
        """Wait for a phase of it."""
        wait_until(lambda: text in self.said() or self.ended.is_set(), f"{text!r}\n{self.said()}", seconds)
        assert text in self.said(), f"it ended with {self.code} before {text!r}\n{self.said()}"


class Commands:
    """`with Commands() as commands:` is one forker."""

    def __enter__(self) -> Commands:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.rented.matrix.forker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        )
        self._numbers = itertools.count(1)
        self._running: dict[int, Running] = {}
        self._started: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._waiting: queue.SimpleQueue[Running] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        self._started.get(timeout=START_S)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._listener.join(30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def start(self, argv: tuple[str, ...], env: dict[str, str], folder: Path, largest: int | None = None) -> Running:
        """Begin `llmhost ARGV`; what it says is kept in `folder`, where it runs."""
        number = next(self._numbers)
        running = Running(folder / f"{number}.out", folder / f"{number}.err")
        names = {"out": str(running.out), "err": str(running.err)}
        order = {"argv": argv, "env": env, "cwd": str(folder), "largest": largest, **names}
        assert self._process.stdin is not None
        self._waiting.put(running)
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        self._started.get(timeout=START_S)
        return running

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, pid, *rest = line.split()
            if word == b"ended":
                running = self._running.pop(int(pid))
                running.code = int(rest[0])
                running.ended.set()
                continue
            if word == b"started":
                running = self._waiting.get()
                running.pid = int(pid)
                self._running[running.pid] = running
            self._started.put(int(pid))
