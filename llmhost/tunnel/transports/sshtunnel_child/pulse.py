"""The session of one SSH connection: a remote `cat`, or a loop like one, that sends every line back, so that silence is noticed.

paramiko's own keepalive sends and never looks at the answer (paramiko#2026). The session also makes sshd set TCP_NODELAY (tunnel facts D2).
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable

import paramiko

from llmhost.tunnel.transports.remote_echo import echo_loop
from llmhost.tunnel.transports.sshtunnel_child.gate import LOST
from llmhost.tunnel.transports.sshtunnel_child.last_words import Ended

CAT = "exec cat"  # the login shell leaves the stage
_OWN = b"llmhost alive "
_BACKLOG = 64  # lines that wait while the connection takes nothing; it is found dead before


def echo_command(beat: str | None) -> str:
    """What runs over there; `beat` as in `LinkSpec`."""
    return echo_loop(beat=beat) if beat else CAT


class Pulse:
    """Beats over one connection. `on_echo` is called with each line of the link that came back, `on_end` once when the session is over."""

    def __init__(
        self,
        transport: paramiko.Transport,
        seconds: float,
        on_echo: Callable[[bytes], None],
        on_end: Callable[[], None],
        command: str = CAT,
    ) -> None:
        """Raises Ended (`session_refused`, `connection_lost`) when no session starts or nothing comes back within `seconds`."""
        self._on_echo, self._on_end = on_echo, on_end
        self._sent: dict[bytes, float] = {}
        self._queue: queue.Queue[bytes | None] = queue.Queue(_BACKLOG)  # None = it is over
        self._answered = threading.Event()
        self._heard = False
        self._count = 0
        self.misses = 0
        self._channel = _session(transport, command, seconds)
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._write, daemon=True).start()
        self.tick()
        self._answered.wait(seconds)
        if not self._heard:
            raise Ended("session_refused", f"`{command}` sent nothing back")

    def send(self, line: bytes) -> None:
        """Queue a line (with its line end); never blocks."""
        self._sent.setdefault(line, time.monotonic())
        try:
            self._queue.put_nowait(line)
        except queue.Full:
            self._sent.pop(line, None)

    def tick(self) -> None:
        """A beat of our own. Counted, not timed: after the machine slept the first one decides nothing."""
        own = b"%s%d\n" % (_OWN, self._count)
        if own in self._sent:
            self.misses += 1
            return
        self.misses = 0
        self._count += 1
        self.send(b"%s%d\n" % (_OWN, self._count))

    def waiting_s(self) -> float:
        """Seconds since the oldest line was sent that did not come back; 0 when all did."""
        sent = list(self._sent.values())
        return time.monotonic() - min(sent) if sent else 0.0

    def _write(self) -> None:
        try:
            while (line := self._queue.get()) is not None:
                self._channel.sendall(line)
        except LOST:
            return  # the reader sees the end too

    def _read(self) -> None:
        buffer = b""
        try:
            while data := self._channel.recv(4096):
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    self._came_back(line + b"\n")
        except LOST:
            pass
        self._answered.set()
        with contextlib.suppress(queue.Full):  # then the writer is at work, and finds out by itself
            self._queue.put_nowait(None)
        self._on_end()

    def _came_back(self, line: bytes) -> None:
        if self._sent.pop(line, None) is None:
            return  # what a start-up file printed
        self._heard = True
        self._answered.set()
        if not line.startswith(_OWN):
            self._on_echo(line)


def _session(transport: paramiko.Transport, command: str, seconds: float) -> paramiko.Channel:
    try:
        channel = transport.open_session(timeout=seconds)
        channel.exec_command(command)
    except LOST as error:
        raise Ended("session_refused" if transport.is_active() else "connection_lost", str(error)) from error
    return channel
