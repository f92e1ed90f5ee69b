"""What can go wrong with a Redis, in words that are safe to show.

    RedisTrouble
    ├── Lost       the connection is gone, or could not be made
    ├── TooSlow    no answer in time
    └── Refused    the server answered with an error

A reason never repeats what the server or the client library said, because that may hold a user name: it is chosen from the texts below.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Iterator

from redis.exceptions import AuthenticationError, InvalidResponse, MovedError, RedisError

_CODES = {
    "READONLY": "Redis is a read-only replica",
    "OOM": "Redis is full",
    "LOADING": "Redis is loading its data",
    "MISCONF": "Redis cannot save to its disk and refuses writes",
    "NOREPLICAS": "Redis has too few replicas and refuses writes",
    "NOAUTH": "Redis asks for a password",
    "WRONGPASS": "Redis refuses the user name or password",
    "NOPERM": "the Redis user lacks a permission",
    "MASTERDOWN": "the replica has lost its master",
    "CLUSTERDOWN": "the Redis cluster is down",
}
_CODE = re.compile(r"[A-Z]{2,24}")
_CAUSES: tuple[tuple[type[BaseException], str], ...] = (
    (ssl.SSLCertVerificationError, "the certificate of Redis is not trusted"),
    (ssl.SSLError, "TLS with Redis failed"),
    (socket.gaierror, "the host name of Redis is not known"),
    (ConnectionRefusedError, "connection to Redis refused"),
    (FileNotFoundError, "there is no socket of Redis"),
    (PermissionError, "the socket of Redis may not be opened"),
    (TimeoutError, "connecting to Redis takes too long"),
    (InvalidResponse, "the server does not speak the Redis protocol"),
    (ValueError, "the server does not speak the Redis protocol"),
    (RecursionError, "the server does not speak the Redis protocol"),
)


class RedisTrouble(Exception):
    """Base. `reason` may be shown to anyone."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Lost(RedisTrouble):
    pass


class TooSlow(RedisTrouble):
    def __init__(self, limit_s: float) -> None:
        super().__init__(f"no answer from Redis within {limit_s * 1000:.0f} ms")


class Refused(RedisTrouble):
    """An error reply. `code` is its first word (`OOM`, `WRONGTYPE`, …); `moved_to` is set by a cluster's redirection."""

    def __init__(self, error: RedisError) -> None:
        self.code = _code(error)
        self.moved_to = (error.host, int(error.port)) if isinstance(error, MovedError) else None
        super().__init__(_reason_for_code(self.code))


def lost(error: BaseException | None) -> Lost:
    """The `Lost` that says why, for whatever ended a connection."""
    if error is None or isinstance(error, asyncio.CancelledError):
        return Lost("the connection to Redis was closed")
    if isinstance(error, Lost):
        return error
    for cause in _chain(error):
        reason = _reason_for(cause)
        if reason:
            return Lost(reason)
    return Lost("the connection to Redis was lost")


def _reason_for(error: BaseException) -> str:
    code = _code(error)
    if code in _CODES:
        return _reason_for_code(code)
    if isinstance(error, AuthenticationError):
        return _reason_for_code("WRONGPASS")
    return next((reason for kind, reason in _CAUSES if isinstance(error, kind)), "")


def _reason_for_code(code: str) -> str:
    return f"{_CODES.get(code, 'Redis refuses a command')} ({code})"


def _code(error: BaseException) -> str:
    """The error's first word: the library keeps it apart for the codes it knows, and in the text for the others."""
    found = _CODE.fullmatch(getattr(error, "status_code", None) or str(error).split(" ")[0])
    return found[0] if found else "ERR"


def _chain(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or current.__context__
