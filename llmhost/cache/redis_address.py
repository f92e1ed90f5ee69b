"""Where a Redis is and how it is spoken to, from the configuration. The credentials stay inside: no repr and no error shows them."""

from __future__ import annotations

import dataclasses
import ipaddress
import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.connection import AbstractConnection, RedisSSLContext

from llmhost.core.errors import UsageError
from llmhost.core.server_config import RedisConfig

CONNECT_LIMIT_S = (
    5.0  # TCP, TLS and AUTH to a hosted Redis are four to five round trips, up to 300 ms each on a bad line
)
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile"})
_DEFAULT_PORT = 6379


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Either `path` (Unix socket) or `host` and `port`. `tls` None = plain text."""

    host: str = ""
    port: int = _DEFAULT_PORT
    path: str = ""
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    tls: RedisSSLContext | None = field(default=None, repr=False)

    def connection(self) -> AbstractConnection:
        """A new connection, not yet opened. It speaks RESP2 and sends nothing of its own but AUTH and SELECT.

        RESP2, because HELLO may be forbidden to an ACL user and is not needed; no CLIENT SETINFO, which Redis 6 and 7.0 lack.
        """
        options = {
            "db": self.db,
            "username": self.username,
            "password": self.password,
            "protocol": 2,
            "driver_info": None,
            "socket_timeout": None,
            "socket_connect_timeout": CONNECT_LIMIT_S,
        }
        if self.path:
            return UnixDomainSocketConnection(path=self.path, **options)
        if self.tls is None:
            return Connection(host=self.host, port=self.port, **options)  # type: ignore[arg-type]
        connection = SSLConnection(host=self.host, port=self.port, **options)  # type: ignore[arg-type]
        connection.ssl_context = (
            self.tls
        )  # shared: reading the trusted certificates blocks the loop for about 15 ms each time
        return connection

    def moved(self, host: str, port: int) -> RedisAddress:
        """The same Redis, at the cluster node that holds our slot. An empty host means the same one."""
        return dataclasses.replace(self, host=host or self.host, port=port)


def redis_address(config: RedisConfig) -> RedisAddress:
    """The address that `config` means; a URL wins over the parts. Raises UsageError, which never quotes the URL."""
    if config.url:
        return _from_url(config.url, config.tls)
    if not config.host:
        raise _unusable("neither a URL nor a host is set")
    encrypted = not _is_loopback(config.host) if config.tls is None else config.tls
    return RedisAddress(
        host=config.host,
        port=config.port,
        username=config.username,
        password=config.password,
        tls=_tls({}) if encrypted else None,
    )


def _from_url(url: str, tls: bool | None) -> RedisAddress:
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORT
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        db = int(options.pop("db", "") or (parts.path.strip("/") if parts.scheme != "unix" else "") or 0)
    except ValueError:
        raise _unusable("its port or database is not a number") from None
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise _unusable("it must begin with redis://, rediss:// or unix://")
    _check_options(options)
    username, password = unquote(parts.username or "") or None, unquote(parts.password or "") or None
    if parts.scheme == "unix":
        return RedisAddress(path=unquote(parts.path), db=db, username=username, password=password)
    # `tls` can only add encryption: a URL that says rediss:// is never spoken to in plain text.
    context = _tls(options) if parts.scheme == "rediss" or tls else None
    return RedisAddress(parts.hostname or "localhost", port, "", db, username, password, context)


def _check_options(options: dict[str, str]) -> None:
    for name in sorted(options.keys() - _TLS_OPTIONS):
        shown = name if name.isidentifier() and len(name) <= 32 else "one of its options"
        raise _unusable(f"{shown} is not supported; known are db, {', '.join(sorted(_TLS_OPTIONS))}")


def _tls(options: dict[str, str]) -> RedisSSLContext:
    """Verifies certificate and host name, always. Without a CA of its own: the system's, or what SSL_CERT_FILE names."""
    context = RedisSSLContext(
        ca_certs=options.get("ssl_ca_certs"),
        ca_path=options.get("ssl_ca_path"),
        certfile=options.get("ssl_certfile"),
        keyfile=options.get("ssl_keyfile"),
        cert_reqs=ssl.CERT_REQUIRED,
        check_hostname=True,
    )
    try:
        context.get()
    except ssl.SSLError:
        raise _unusable("one of its certificate files is not a PEM file") from None
    except OSError as error:
        raise _unusable(f"one of its certificate files cannot be read ({error.strerror})") from None
    return context


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _unusable(why: str) -> UsageError:
    return UsageError(
        f"the Redis settings cannot be used: {why}.",
        hint="Set LLMHOST_REDIS_URL to redis://HOST:PORT or rediss://USER:PASSWORD@HOST:PORT, or leave Redis out.",
        code="redis_settings",
    )
