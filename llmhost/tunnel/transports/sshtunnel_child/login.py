"""Opens one SSH connection step by step, so that each way to fail has its own reason."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence

import paramiko

from llmhost.ssh.target import SshTarget
from llmhost.tunnel.transports.sshtunnel_child.host_check import HostCheck
from llmhost.tunnel.transports.sshtunnel_child.last_words import Ended

_GREETING_BYTES = 4096  # a server may say other lines first (RFC 4253 §4.2)


def dial(target: SshTarget, seconds: float) -> socket.socket:
    """A TCP connection to an SSH server, which `seconds` bounds.

    Raises Ended: `name_unresolved`, `connection_refused`, `connect_timeout`, `host_unreachable`, `not_ssh`, `connection_lost`.
    """
    try:
        connection = socket.create_connection((target.host, target.port), timeout=seconds)
    except socket.gaierror as error:
        raise Ended("name_unresolved", error.strerror or "") from error
    except ConnectionRefusedError as error:
        raise Ended("connection_refused") from error
    except TimeoutError as error:
        raise Ended("connect_timeout") from error
    except OSError as error:
        raise Ended("host_unreachable", error.strerror or str(error)) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        _expect_greeting(connection)
    except Ended:
        connection.close()
        raise
    return connection


def _expect_greeting(connection: socket.socket) -> None:
    """Look at the server's first words without taking them: paramiko would wait for a hundred lines, and say only that there were none."""
    try:
        words = connection.recv(_GREETING_BYTES, socket.MSG_PEEK)
    except TimeoutError as error:
        raise Ended("connect_timeout", "it accepts connections and says nothing") from error
    except OSError as error:
        raise Ended("connection_lost", error.strerror or "") from error
    if not words:
        raise Ended("connection_lost", "it was closed before the first word")
    if not words.startswith(b"SSH-") and b"\nSSH-" not in words:
        raise Ended("not_ssh", f"it says {words[:40]!r}")


class Login:
    """Called with a new transport: key exchange, the check of the host key, then user authentication; each within `seconds`.

    Raises Ended: `ssh_incompatible`, `connect_timeout`, `connection_lost`, `host_key_changed` (nothing of the user was sent),
    `auth_refused`, `password_only`. The transport is closed then.
    """

    def __init__(self, user: str, keys: Sequence[paramiko.PKey], host: HostCheck, seconds: float) -> None:
        self._user = user
        self._keys = keys
        self._host = host
        self._seconds = seconds

    def __call__(self, transport: paramiko.Transport) -> None:
        try:
            self._shake_hands(transport)
            self._host.check(transport.get_remote_server_key())
            self._authenticate(transport)
        except Ended:
            transport.close()
            raise

    def _shake_hands(self, transport: paramiko.Transport) -> None:
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = self._seconds
        self._host.ask_for_pinned(transport.get_security_options())
        until = time.monotonic() + self._seconds
        try:
            transport.start_client(timeout=self._seconds)
        except paramiko.ssh_exception.IncompatiblePeer as error:
            raise Ended("host_key_changed" if "host key" in str(error) else "ssh_incompatible", str(error)) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise _unfinished(error, time.monotonic() >= until) from error
        if not transport.initial_kex_done:
            raise Ended("connect_timeout", "the server said nothing more")

    def _authenticate(self, transport: paramiko.Transport) -> None:
        for key in self._keys:
            try:
                if not transport.auth_publickey(self._user, key):
                    return
            except paramiko.BadAuthenticationType as error:
                raise _no_keys_taken(error) from error
            except paramiko.AuthenticationException:
                pass  # the next one
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise Ended("connection_lost", f"while logging in: {error}") from error
            if not transport.is_active():
                break  # too many tries
        raise Ended("auth_refused")


def _unfinished(error: Exception, late: bool) -> Ended:
    text = str(error)
    if late:
        return Ended("connect_timeout", "the server said nothing more")
    return Ended("connection_lost", f"while connecting: {text}" if text else "while connecting")


def _no_keys_taken(error: paramiko.BadAuthenticationType) -> Ended:
    asked = set(error.allowed_types)
    if asked and asked <= {"password", "keyboard-interactive"}:
        return Ended("password_only")
    return Ended("auth_refused", f"the server takes only {', '.join(error.allowed_types)}")
