"""Lets one hand at a time write to a channel, its end included.

paramiko's own thread answers the peer's CLOSE at once, while another thread may be about to send DATA or EOF. OpenSSH's server takes a
message for a channel that is closed on both sides as a breach of the protocol and drops the whole connection with all its streams
(paramiko#1115, tunnel facts §2). So the answer to a CLOSE waits here until no write is under way, and no write follows it.
This needs names that paramiko does not publish; `fits` says whether they are there. Without them a stream can take its group along.
"""

from __future__ import annotations

import contextlib
import threading

import paramiko
from paramiko.common import MSG_CHANNEL_CLOSE

# What using a channel raises when it, or the connection under it, is gone.
LOST = (OSError, EOFError, paramiko.SSHException)
_TABLE = "_channel_handler_table"


def fits(transport: paramiko.Transport) -> bool:
    """Whether this paramiko is built as it has to be for a gate."""
    return MSG_CHANNEL_CLOSE in getattr(transport, _TABLE, {})


class Gate:
    """The only way to write to one channel. Every method may be called from any thread."""

    def __init__(self, channel: paramiko.Channel) -> None:
        self.channel = channel
        self._writing = threading.Lock()
        self._peer_closed: paramiko.Message | None = None
        self.finished = threading.Event()  # nothing more will be sent, or the peer wants nothing more

    def send(self, data: bytes) -> None:
        """All of it. Raises OSError when the channel is closed, or closing."""
        left = memoryview(data)
        with self._writing:
            while left:
                sent = self.channel.send(left)
                if not sent:
                    raise BrokenPipeError("the channel is closing")
                left = left[sent:]

    def end(self) -> None:
        """Say that nothing more will be sent."""
        with self._writing:
            self.channel.shutdown_write()
        self.finished.set()

    def close(self) -> None:
        """Close the channel, or answer the peer's CLOSE. A writer that waits for room is sent away first."""
        self._stop_writer()
        with self._writing, contextlib.suppress(*LOST):
            message, self._peer_closed = self._peer_closed, None
            if message is None:
                self.channel.close()
            else:
                paramiko.Channel._handle_close(self.channel, message)
        self.finished.set()

    def peer_closed(self, message: paramiko.Message) -> None:
        """The peer's CLOSE came: what arrived before it can still be read, then the reader sees the end and calls `close`."""
        if self.channel.closed:
            paramiko.Channel._handle_close(self.channel, message)
            return
        self._peer_closed = message
        self._stop_writer()
        self.channel._handle_eof(message)
        self.finished.set()

    def _stop_writer(self) -> None:
        with self.channel.lock:
            self.channel.eof_sent = True
            self.channel.out_buffer_cv.notify_all()


class Gates:
    """The gates of one SSH connection's streams."""

    def __init__(self, transport: paramiko.Transport) -> None:
        self._gates: dict[int, Gate] = {}
        if fits(transport):
            table = getattr(transport, _TABLE)
            setattr(transport, _TABLE, {**table, MSG_CHANNEL_CLOSE: self._on_close})

    def gate(self, channel: paramiko.Channel) -> Gate:
        """A gate for a channel that was just opened; `drop` it when it is over."""
        made = Gate(channel)
        self._gates[channel.get_id()] = made
        return made

    def drop(self, gate: Gate) -> None:
        self._gates.pop(gate.channel.get_id(), None)

    def _on_close(self, channel: paramiko.Channel, message: paramiko.Message) -> None:
        gate = self._gates.get(channel.get_id())
        if gate is None:
            paramiko.Channel._handle_close(channel, message)
        else:
            gate.peer_closed(message)
