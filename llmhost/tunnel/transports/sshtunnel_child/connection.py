"""One SSH connection of the link: logged in, its session beating, ready to carry streams."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import paramiko

from llmhost.tunnel.transports.sshtunnel_child.config import ChildConfig
from llmhost.tunnel.transports.sshtunnel_child.forwarder import Forwarder, Wire
from llmhost.tunnel.transports.sshtunnel_child.gate import LOST
from llmhost.tunnel.transports.sshtunnel_child.host_check import HostCheck, PinFile
from llmhost.tunnel.transports.sshtunnel_child.keys import login_keys
from llmhost.tunnel.transports.sshtunnel_child.last_words import Ended
from llmhost.tunnel.transports.sshtunnel_child.login import Login, dial
from llmhost.tunnel.transports.sshtunnel_child.pulse import Pulse, echo_command

_PROHIBITED = 1  # SSH_OPEN_ADMINISTRATIVELY_PROHIBITED, RFC 4254 §5.1


class Connection:
    """Made by `Opener`. `streams` and `idle_since` are the pool's to keep."""

    def __init__(self, forwarder: Forwarder, config: ChildConfig, on_echo: Callable[[bytes], None]) -> None:
        """Raises Ended as `Pulse` does."""
        self.streams = 0
        self.idle_since = time.monotonic()
        self.on_gone: Callable[[Connection], None] = lambda _: None
        self.gone = False
        self.why = ""  # in words, once it is gone
        self._forwarder = forwarder
        self._config = config
        self._pulse = Pulse(forwarder.transport, config.connect, on_echo, self._ended, echo_command(config.beat))

    @property
    def fresh(self) -> bool:
        """Whether it may be given new streams: nothing it was asked is overdue."""
        return not self.gone and self._pulse.waiting_s() < self._config.suspect_after

    def carry(self, client: socket.socket, done: Callable[[], None]) -> None:
        self._forwarder.carry(client, done)

    def beat(self, line: bytes) -> None:
        self._pulse.send(line)

    def tick(self) -> None:
        """A beat of its own; a connection that left too many unanswered is closed."""
        self._pulse.tick()
        if self._pulse.misses >= self._config.alive_count and not self.gone:
            self.why = f"it left {self._pulse.misses} beats in a row unanswered"
            self.close()

    def check_forwarding(self) -> None:
        """Open a stream and close it. Raises Ended (`forwarding_refused`) when the server forbids any; that nobody listens is no matter."""
        try:
            self._forwarder.open_stream().close()
        except paramiko.ChannelException as error:
            if error.code == _PROHIBITED:
                raise Ended("forwarding_refused", error.text) from error
        except LOST as error:
            raise Ended("connection_lost", str(error)) from error

    def close(self) -> None:
        self._forwarder.close()

    def _ended(self) -> None:
        self.why = self.why or str(self._forwarder.transport.get_exception() or "")
        self.gone = True
        self.close()
        self.on_gone(self)


class Opener:
    """Opens connections, with the key that was read for the first one."""

    def __init__(self, config: ChildConfig, on_echo: Callable[[bytes], None]) -> None:
        self._config = config
        self._on_echo = on_echo
        self._keys: Sequence[paramiko.PKey] = ()

    def open(self) -> Connection:
        """Connect, check the machine, log in, start the session. Raises Ended with the reason; nothing is left open then."""
        config = self._config
        if config.remote_port is None:
            raise Ended("forwarding_refused", "this transport needs a TCP port of the node's proxy, and there is none")
        self._keys = self._keys or login_keys(config.identity)
        host = HostCheck(PinFile(Path(config.known_hosts)), config.alias)
        login = Login(config.target.user, self._keys, host, config.connect)
        wire = Wire(dial(config.target, config.connect))
        forwarder = Forwarder(config.target, wire, self._keys, config.remote_port, login)
        try:
            return Connection(forwarder, config, self._on_echo)
        except Ended:
            forwarder.close()
            raise
