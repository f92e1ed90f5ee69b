"""sshtunnel's forwarder, made fit for a link.

Used of it: its arguments and their checks, its way to a transport, its server with one thread per stream. Replaced, for reasons measured
(tunnel facts §2): how it logs in (it swallows why it failed, and makes a connection per key), how it carries a stream (its `select` loses
the answer when a client half-closes, loses early answers and fails above 1,024 descriptors), and `stop`, which hangs and is never called.
"""

from __future__ import annotations

import logging
import socket
import tempfile
from collections.abc import Callable, Sequence
from socketserver import BaseRequestHandler
from typing import Any

import paramiko
import sshtunnel

from llmhost.ssh.target import SshTarget
from llmhost.tunnel.transports.sshtunnel_child.gate import LOST, Gates
from llmhost.tunnel.transports.sshtunnel_child.last_words import SOCKET_FAILED, Ended
from llmhost.tunnel.transports.sshtunnel_child.pump import pump

LOOPBACK = "127.0.0.1"
_FOLDER = "/tmp"  # not TMPDIR: a Unix socket's path is short
_SILENT = logging.getLogger("llmhost.sshtunnel")  # without one of ours, sshtunnel would write to the console


class Wire:
    """A connected socket in the shape that sshtunnel passes on as it is; a real socket object it would connect once more."""

    def __init__(self, connection: socket.socket) -> None:
        self.recv = connection.recv
        self.send = connection.send
        self.close = connection.close
        self.settimeout = connection.settimeout
        self._connection = connection

    @property
    def _closed(self) -> bool:
        return self._connection.fileno() < 0  # paramiko asks when it ends its thread


class Forwarder(sshtunnel.SSHTunnelForwarder):  # type: ignore[misc]
    """One SSH connection whose streams are handed to it instead of accepted by it.

    `login` is called with the transport before anything is forwarded; what it raises comes out of `start`.
    """

    def __init__(
        self,
        target: SshTarget,
        wire: Wire,
        keys: Sequence[paramiko.PKey],
        remote_port: int,
        login: Callable[[paramiko.Transport], None],
    ) -> None:
        """Raises Ended: what `login` raises, `connection_lost`, or SOCKET_FAILED when there is no room for a socket's file."""
        self._login = login
        self._remote = (LOOPBACK, remote_port)
        try:
            self._open(target, wire, keys[0])
        except sshtunnel.BaseSSHTunnelForwarderError as error:
            raise Ended("connection_lost", "right after the login") from error
        except OSError as error:
            wire.close()
            raise Ended(SOCKET_FAILED, f"in {_FOLDER}: {error.strerror or error}") from error

    def _open(self, target: SshTarget, wire: Wire, key: paramiko.PKey) -> None:
        # A socket that is gone with its folder right after the start: nobody but `carry` can give it streams.
        with tempfile.TemporaryDirectory(prefix="llmhost-", dir=_FOLDER) as folder:
            super().__init__(
                (target.host, target.port),
                ssh_proxy=wire,
                ssh_username=target.user,
                ssh_pkey=key,  # it takes no other way in without one; `login` offers all
                ssh_config_file=None,
                host_pkey_directories=[],
                allow_agent=False,
                set_keepalive=0.0,  # it is sent and its answer never looked at
                local_bind_address=f"{folder}/s",
                remote_bind_address=self._remote,
                logger=_SILENT,
            )
            self.start()

    @property
    def transport(self) -> paramiko.Transport:
        return self._transport

    def carry(self, client: socket.socket, done: Callable[[], None]) -> None:
        """Forward one accepted connection in a thread of its own; it is closed, and `done` called, when it is over."""
        # `done` travels in the place of the client's address, which a Unix socket has none of.
        try:
            self._server_list[0].process_request(client, done)
        except RuntimeError:  # no thread to be had
            client.close()
            done()

    def stream(self, client: socket.socket) -> None:
        """Carry one stream to its end. A channel that the server refuses ends it before the first byte."""
        try:
            channel = self.open_stream()
        except LOST:
            return
        gate = self._gates.gate(channel)
        try:
            pump(client, gate)
        finally:
            self._gates.drop(gate)

    def open_stream(self) -> paramiko.Channel:
        """A channel to the node's proxy. Raises one of `LOST`; ChannelException has the server's code."""
        return self.transport.open_channel(
            "direct-tcpip", self._remote, (LOOPBACK, 0), timeout=sshtunnel.TUNNEL_TIMEOUT
        )

    def close(self) -> None:
        """End the connection and its streams, without waiting for anything."""
        self.transport.close()
        for server in self._server_list:
            server.server_close()

    def __del__(self) -> None:
        """sshtunnel would call its `stop` here."""

    # ── what sshtunnel calls ────────────────────────────────────────────────────────────────────────────────────

    def _connect_to_gateway(self) -> None:
        self._transport = self._get_transport()
        self._login(self._transport)
        self._gates = Gates(self._transport)

    def _make_ssh_forward_handler_class(self, remote: Any) -> type[BaseRequestHandler]:
        forwarder = self

        class Handler(BaseRequestHandler):
            remote_address = remote

            def handle(self) -> None:
                try:
                    forwarder.stream(self.request)
                finally:
                    self.client_address()

        return Handler

    def _serve_forever_wrapper(self, server: Any, poll_interval: float = 0.1) -> None:
        """Accept nothing."""
