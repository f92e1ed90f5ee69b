"""A TCP connection to a machine, or the typed reason why there is none."""

from __future__ import annotations

import contextlib
import errno
import queue
import socket
import threading
import time

from llmhost.ssh.failures import SshFailure, failure
from llmhost.ssh.target import SshTarget

# How long sent bytes may stay unconfirmed before the system gives up: as long as ssh would wait (tunnel facts §2.3, 5 s × 6).
UNCONFIRMED_MS = 30_000

_Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]]


def dial(target: SshTarget, timeout_s: float) -> socket.socket:
    """Connect to the first address of the host that answers. `timeout_s` is for all of them together, the look-up of the name included.

    Raises SshFailure: `name_unresolved`, `connection_refused`, `host_unreachable`, `connect_timeout`.
    """
    deadline = time.monotonic() + timeout_s
    addresses = _resolve(target, timeout_s)
    for number, (family, address) in enumerate(addresses, start=1):
        left = max(deadline - time.monotonic(), 0.1)
        last = number == len(addresses)
        try:
            # An address that swallows packets must leave time for the next one.
            return _connected(family, address, left if last else left / 2)
        except OSError as error:
            if last:
                raise _explained(error, target) from error
    raise failure("name_unresolved", target)


def _connected(family: socket.AddressFamily, address: tuple[object, ...], timeout_s: float) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout_s)
        connection.connect(address)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNCONFIRMED_MS)
    except BaseException:
        connection.close()
        raise
    return connection


def _resolve(target: SshTarget, timeout_s: float) -> list[_Address]:
    """Addresses in the system's order. The system's look-up has no time-out of its own, so it gets a thread."""
    answers: queue.Queue[list[_Address] | Exception] = queue.Queue()
    threading.Thread(target=_look_up, args=(target, answers), name="llmhost-resolve", daemon=True).start()
    try:
        answer = answers.get(timeout=timeout_s)
    except queue.Empty:
        raise failure("name_unresolved", target, f"no answer within {timeout_s:.0f} s") from None
    if isinstance(answer, Exception):
        raise failure("name_unresolved", target, getattr(answer, "strerror", None) or "") from answer
    return answer


def _look_up(target: SshTarget, answers: queue.Queue[list[_Address] | Exception]) -> None:
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: no name that DNS could know
        answers.put(error)
        return
    answers.put([(family, address) for family, _, _, _, address in found])


def _explained(error: OSError, target: SshTarget) -> SshFailure:
    if isinstance(error, ConnectionRefusedError):
        return failure("connection_refused", target)
    if isinstance(error, TimeoutError):
        return failure("connect_timeout", target)
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return failure("connection_lost", target, error.strerror or "")
    return failure("host_unreachable", target, error.strerror or "")


def hang_up(connection: socket.socket) -> None:
    """End a connection under whoever is reading from it or writing to it: they get an error at once."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
