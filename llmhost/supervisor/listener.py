"""The gateway's port: bound once, by the supervisor, and kept for its life.

The gateway inherits the descriptor. While it is down, and while it is replaced, connections wait in the kernel's queue instead of being
refused, which matters because some versions of Claude Code do not try a refused connection again.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys

from llmhost.core.errors import LlmhostError
from llmhost.supervisor.spec import Listen

HOST = "127.0.0.1"
BACKLOG = 1024
_MAX_PORT = 65535


def bind(wish: Listen) -> socket.socket:
    """A listening socket on the wished port, or, if that one was not asked for by name, on the next free one.

    Raises LlmhostError (`port_in_use`, `port_forbidden`).
    """
    last = wish.port if wish.explicit else min(wish.port + wish.span, _MAX_PORT)
    for port in range(wish.port, last + 1):
        try:
            return _listen(port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise _forbidden(port, error) from error
    raise _in_use(wish, last)


def port_of(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def satisfies(listener: socket.socket, wish: Listen) -> bool:
    """Whether a bound socket is as good as binding anew: a port that was not asked for by name may be any."""
    return not wish.explicit or port_of(listener) == wish.port


def _listen(port: int) -> socket.socket:
    if sys.platform == "darwin" and _answers(port):
        # BSD lets a specific address be bound next to a stranger's wildcard, whose clients we would then steal.
        raise OSError(errno.EADDRINUSE, "somebody listens there")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _answers(port: int) -> bool:
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as caller:
        caller.settimeout(0.2)
        return caller.connect_ex((HOST, port)) == 0


def _in_use(wish: Listen, last: int) -> LlmhostError:
    span = f"port {wish.port} is" if last == wish.port else f"ports {wish.port} to {last} are all"
    return LlmhostError(
        f"{span} taken on {HOST}.",
        hint=f"Stop what listens there, or choose another port: llmhost up --port {min(last + 1, _MAX_PORT)}",
        code="port_in_use",
    )


def _forbidden(port: int, error: OSError) -> LlmhostError:
    return LlmhostError(
        f"cannot listen on {HOST}:{port}: {error.strerror or error}.",
        hint="Choose a port above 1024: llmhost up --port 8001",
        code="port_forbidden",
    )
