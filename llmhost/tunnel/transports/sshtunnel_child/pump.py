"""Carries one stream: a local client's bytes and a channel's, the two directions independent of each other."""

from __future__ import annotations

import contextlib
import socket
import threading

from llmhost.tunnel.transports.sshtunnel_child.gate import LOST, Gate

CHUNK = 32_768  # a channel's packet size
# How long a client that still uploads may read the answer of a server that has closed already (an early 413).
LINGER_S = 2.0
CONNECTION_CHECK_S = 0.5


def pump(client: socket.socket, gate: Gate) -> None:
    """Returns when the stream is over; channel and client are closed for good then (the client's socket object is the caller's)."""
    upload = threading.Thread(target=_up, args=(client, gate), daemon=True)
    upload.start()
    _down(client, gate)
    while not gate.channel.closed and not gate.finished.wait(CONNECTION_CHECK_S):
        pass  # the server said all it has to say and still listens
    gate.close()
    upload.join(LINGER_S)
    with contextlib.suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)  # wakes an upload that waits for the client
    upload.join()


def _up(client: socket.socket, gate: Gate) -> None:
    try:
        while data := client.recv(CHUNK):
            gate.send(data)
        gate.end()
    except ConnectionResetError:
        gate.close()
    except LOST:
        gate.finished.set()
        _discard(client)


def _discard(client: socket.socket) -> None:
    """Read on what nobody wants, so that the client's write does not fail before it has read the answer."""
    with contextlib.suppress(OSError):
        while client.recv(CHUNK):
            pass


def _down(client: socket.socket, gate: Gate) -> None:
    try:
        while data := gate.channel.recv(CHUNK):
            client.sendall(data)
        client.shutdown(socket.SHUT_WR)
    except LOST:
        gate.close()  # the client is gone, and the server should know at once
