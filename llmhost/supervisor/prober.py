"""Asks a child, about once a second, how it is, so that `status` is answered from memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmhost.supervisor.loopback import Answer, request
from llmhost.supervisor.spec import Probe

INTERVAL_S = 1.0
STARTING_INTERVAL_S = 0.05  # a child that has not answered yet is asked often: readiness is what a person waits for
TIMEOUT_S = 2.0
WHOLE_S = 5.0  # a server that drips is as good as a silent one
MAX_ANSWER = 128 * 1024  # all of them together must fit a reply to `status`, whatever a node sends


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer. `asked_at` is monotonic seconds; `vanished` = its socket file is not there any more.

    `fault` tells failures apart: `refused` (nobody there, or it hung up at once), `silent` (no answer in time), `bad` (a strange one).
    """

    asked_at: float
    ok: bool
    data: Any = None
    error: str = ""
    vanished: bool = False
    fault: str = ""


class Prober:
    """A thread with the last reading. `running` says whether there is a process to ask; `heard` is told each reading.

    It is asked every `every_s` seconds, and every `starting_s` while it does not answer.
    """

    def __init__(
        self,
        probe: Probe,
        address: str,
        running: Callable[[], bool],
        heard: Callable[[Reading], None],
        *,
        every_s: float = INTERVAL_S,
        starting_s: float = STARTING_INTERVAL_S,
    ) -> None:
        self._every_s, self._starting_s = every_s, starting_s
        self._probe = probe
        self._address = address
        self._running = running
        self._heard = heard
        self._changed = threading.Condition()
        self._asked_for = False
        self._stopped = False
        self._reading: Reading | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name=f"probe {self._address}", daemon=True).start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def forget(self) -> None:
        """A new process was started: what the old one said counts no more."""
        with self._changed:
            self._reading = None
            self._asked_for = True
            self._changed.notify_all()

    @property
    def reading(self) -> Reading | None:
        return self._reading

    def kick(self) -> float:
        """Ask again at once; a reading with `asked_at` of at least the returned time is the answer."""
        now = time.monotonic()
        with self._changed:
            self._asked_for = True
            self._changed.notify_all()
        return now

    def wait_newer(self, since: float, deadline: float) -> None:
        """Wait for a reading asked for after `since`, until `deadline` (both monotonic)."""
        with self._changed:
            self._changed.wait_for(lambda: self._newer(since), max(0.0, deadline - time.monotonic()))

    def _newer(self, since: float) -> bool:
        return self._stopped or (self._reading is not None and self._reading.asked_at >= since)

    def _run(self) -> None:
        while not self._stopped:
            if self._running():
                self._keep(self._ask())
            with self._changed:
                self._changed.wait_for(lambda: self._asked_for or self._stopped, self._pause())
                self._asked_for = False

    def _pause(self) -> float:
        answered = self._reading is not None and self._reading.ok
        return self._every_s if answered or not self._running() else self._starting_s

    def _keep(self, reading: Reading) -> None:
        with self._changed:
            self._reading = reading
            self._changed.notify_all()
        self._heard(reading)

    def _ask(self) -> Reading:
        now = time.monotonic()
        try:
            answer = self._request()
        except FileNotFoundError:
            return Reading(now, False, error="its socket is not there", vanished=True, fault="refused")
        except OSError as error:
            words = error.strerror or str(error) or type(error).__name__
            return Reading(now, False, error=words, fault=_fault_of(error))
        if answer.status != 200:
            words = f"it answered {self._probe.path} with status {answer.status}"
            return Reading(now, False, answer.data, words, fault="bad")
        return Reading(now, True, answer.data)

    def _request(self) -> Answer:
        return request(
            self._address,
            "GET",
            self._probe.path,
            token=self._probe.token,
            timeout_s=TIMEOUT_S,
            whole_s=WHOLE_S,
            max_bytes=MAX_ANSWER,
        )


def _fault_of(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "silent"
    return "refused" if isinstance(error, ConnectionError) else "bad"
