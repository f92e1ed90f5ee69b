"""The state of a link as people and the gateway see it, and the words for it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from llmhost.ssh.failures import failure
from llmhost.supervisor.logfile import EventLog
from llmhost.supervisor.prober import Reading
from llmhost.tunnel.base import Reason
from llmhost.tunnel.spec import LinkSpec

_DIGITS = str.maketrans("", "", "0123456789")
# A machine may say what it likes as long as it likes; a log is for what is worth reading.
SAID_AT_MOST = 50
SAID_WITHIN_S = 60.0
SAID_CHARS = 500


class LinkState(StrEnum):
    """The contract's words for a tunnel."""

    CONNECTING = "connecting"
    UP = "up"
    DEGRADED = "degraded"
    RECONNECTING = "reconnecting"
    FAILED = "failed"
    DRAINING = "draining"
    STOPPED = "stopped"


class Standing:
    """State, since when, why, and how often it came back; every change is one line of the link's log. Safe from any thread."""

    def __init__(self, name: str, events: EventLog, on_change: Callable[[], None]) -> None:
        self.state = LinkState.CONNECTING
        self.reason: Reason | None = None
        self.was_up = False
        self.reconnects = 0
        self._since = datetime.now(UTC)
        self._name = name
        self._events = events
        self._on_change = on_change
        self._lock = threading.Lock()
        self._last_said = ""
        self._said_at: deque[float] = deque(maxlen=SAID_AT_MOST)

    def set(self, state: LinkState, reason: Reason | None) -> None:
        """Be in `state` for `reason`. The same again changes nothing, `since` neither."""
        with self._lock:
            before = (self.state, self.reason)
            if before == (state, reason):
                return
            if state is not self.state:
                self._since = datetime.now(UTC)
            self.state, self.reason = state, reason
            self.was_up = self.was_up or state in (LinkState.UP, LinkState.DEGRADED)
        why = {"reason": reason.code, "text": reason.text} if reason else {}
        self._events.write("link_state", link=self._name, state=state, **why, reconnects=self.reconnects)
        self._on_change()

    def connected(self, pid: int | None, why: str, took_s: float) -> None:
        """Another connection is in use; `why` it was opened, and how long that took."""
        with self._lock:
            self.reconnects += why in ("ended", "silent")
        self._events.write("link_connected", link=self._name, pid=pid, why=why, took_ms=round(took_s * 1000, 1))
        self._on_change()

    def opening(self, pid: int | None, why: str) -> None:
        """A login begins."""
        self._events.write("link_opening", link=self._name, pid=pid, why=why)
        self._on_change()

    def said(self, line: str) -> None:
        """A line of the child's standard error. One that only repeats itself (another channel, another number) is not written again,

        and of many in a minute the first `SAID_AT_MOST`.
        """
        kind, now = line.translate(_DIGITS), time.monotonic()
        with self._lock:
            repeats, self._last_said = kind == self._last_said, kind
            too_many = len(self._said_at) == SAID_AT_MOST and now - self._said_at[0] < SAID_WITHIN_S
            written = not repeats and not too_many
            if written:
                self._said_at.append(now)
        if written:
            self._events.write("link_said", link=self._name, line=line[:SAID_CHARS])

    @property
    def trouble(self) -> Reason | None:
        """Why it failed for good; None while it may come back by itself."""
        with self._lock:
            return self.reason if self.state is LinkState.FAILED else None

    def view(self) -> dict[str, Any]:
        with self._lock:
            return {
                "state": str(self.state),
                "since": self._since.isoformat(timespec="milliseconds"),
                "reason": self.reason.code if self.reason else None,
                "reason_text": self.reason.text if self.reason else None,
                "reconnects": self.reconnects,
            }


def silent(spec: LinkSpec) -> Reason:
    """No echo."""
    text = f"{spec.target} has not answered over the connection for {spec.timing.echo_within:g} s or more."
    return Reason("connection_silent", text, False)


def forwarding_refused(spec: LinkSpec) -> Reason:
    """The proxy listens over there, and no stream gets to it."""
    known = failure("forwarding_refused", spec.target)
    return Reason(known.code, known.message, known.fatal)


def degraded(spec: LinkSpec, reading: Reading) -> Reason:
    """The connection is fine, the server behind it is not."""
    where = f"the proxy of node {spec.name}"
    if reading.fault == "silent":
        return Reason("backend_silent", f"{where} does not answer; the connection to its machine is fine.", False)
    if reading.fault == "refused":
        text = f"{where} is not there, or hangs up; the connection to its machine is fine."
        return Reason("backend_refused", text, False)
    return Reason("backend_bad_answer", f"{where} is in trouble: {reading.error}.", False)
