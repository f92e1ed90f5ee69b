"""The session of one SSH connection of the fallback transport, over a stand-in for paramiko's transport."""

from __future__ import annotations

import queue
import threading

from llmhost.tunnel.transports.sshtunnel_child.pulse import Pulse
from tests.support.system import wait_until


class Wire:
    """Transport and channel in one: a machine that sends every line back until it is closed."""

    def __init__(self):
        self._lines = queue.Queue()
        self.closed = False

    def open_session(self, timeout):
        return self

    def exec_command(self, command):
        pass

    def sendall(self, data):
        if self.closed:
            raise OSError("closed")
        self._lines.put(data)

    def recv(self, size):
        return self._lines.get()

    def close(self):
        self.closed = True
        self._lines.put(b"")


def test_no_thread_outlives_its_connection():
    before = threading.active_count()
    wires = [Wire() for _ in range(10)]
    ended = []
    pulses = [Pulse(wire, 5.0, lambda line: None, lambda: ended.append(1)) for wire in wires]
    assert threading.active_count() == before + 2 * len(pulses)
    for wire in wires:
        wire.close()
    wait_until(lambda: threading.active_count() == before, "the threads to end")
    assert len(ended) == 10
