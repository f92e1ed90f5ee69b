"""Whether the configured Redis can be reached, trusted, logged in to and written."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from llmhost.core.addresses import is_loopback, without_password
from llmhost.core.server_config import RedisConfig
from llmhost.fleet.check import Check, ok, warn

if TYPE_CHECKING:
    from redis import Redis

    from llmhost.core.settings import Settings

# TCP, TLS and AUTH with a hosted Redis take up to 300 ms for each of five round trips on a bad line.
PATIENCE_S = 3.0
SHOW = "llmhost config show"
# Chosen by kind and by the reply's first word: what the server says may hold a user name.
TLS_FAILED = "TLS failed"
NO_ANSWER = f"no answer within {PATIENCE_S:.0f} s"
# A server that speaks plain text answers a TLS greeting with nonsense, or with silence.
TLS_DOUBTFUL = (TLS_FAILED, NO_ANSWER)
REASONS = {
    "NOAUTH": "it asks for a password",
    "WRONGPASS": "it refuses the user name or password",
    "NOPERM": "the user may not write there",
    "READONLY": "it is a read-only replica",
    "OOM": "it is full",
    "MISCONF": "it cannot save to its disk and refuses writes",
    "LOADING": "it is still loading its data",
}


def check_redis(settings: Settings) -> Check:
    """Log in and write one key that expires at once. A Redis in trouble costs the cache, never a request: so nothing here fails."""
    config = settings.redis_config()
    if config is None:
        return ok("redis", "none is configured: cached answers are kept in memory")
    where = shown(config)
    trouble = _trouble(config, settings.cache_namespace)
    if trouble:
        doubt = "; does it speak TLS on this port?" if encrypted(config) and trouble in TLS_DOUBTFUL else ""
        return warn("redis", f"{where}: {trouble}{doubt}", SHOW)
    if not encrypted(config) and not is_loopback(_host(config)):
        return warn(
            "redis", f"{where}: answers, but without TLS: password and answers cross the network in plain text", SHOW
        )
    return ok("redis", f"{where}: answers{', with TLS' if encrypted(config) else ''}")


def shown(config: RedisConfig) -> str:
    """The address without its password."""
    return without_password(config.url) if config.url else f"{config.host}:{config.port}"


def encrypted(config: RedisConfig) -> bool:
    """Whether TLS is spoken."""
    return bool(config.tls) or bool(config.url and config.url.startswith("rediss://"))


def _trouble(config: RedisConfig, namespace: str) -> str:
    from redis.exceptions import RedisError

    try:
        client = _client(config)
        try:
            client.set(f"llmhost:{{{namespace}}}:probe", b"", px=1000)
        finally:
            client.close()
    except (RedisError, OSError, ValueError) as error:
        return reason(error)
    return ""


def _client(config: RedisConfig) -> Redis:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    options: dict[str, Any] = {
        "socket_timeout": PATIENCE_S,
        "socket_connect_timeout": PATIENCE_S,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "driver_info": None,
    }
    if config.url:
        url = (
            config.url.replace("redis://", "rediss://", 1)
            if config.tls and config.url.startswith("redis://")
            else config.url
        )
        client: Redis = Redis.from_url(url, **options)
        return client
    return Redis(
        host=config.host or "",
        port=config.port,
        username=config.username,
        password=config.password,
        ssl=bool(config.tls),
        **options,
    )


def reason(error: BaseException) -> str:
    """Words of our own for what went wrong."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for one in chain:
        word = getattr(one, "status_code", None) or str(one).split(" ")[0]
        if word in REASONS:
            return f"{REASONS[word]} ({word})"
    return next((text for kind, text in _kinds() if any(isinstance(one, kind) for one in chain)), "it does not answer")


def _kinds() -> list[tuple[type[BaseException], str]]:
    import socket

    from redis.exceptions import AuthenticationError

    return [
        (ssl.SSLCertVerificationError, "its certificate is not trusted"),
        (ssl.SSLError, TLS_FAILED),
        (socket.gaierror, "its host name is not known"),
        (ConnectionRefusedError, "connection refused"),
        (AuthenticationError, "it refuses the user name or password"),
        (TimeoutError, NO_ANSWER),
    ]


def _host(config: RedisConfig) -> str:
    from urllib.parse import urlsplit

    return (urlsplit(config.url).hostname or "") if config.url else (config.host or "")
