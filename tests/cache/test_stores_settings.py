"""From the configuration to a store: what is accepted, what is refused, and that no credential shows."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from llmhost.cache.base import CacheStore
from llmhost.cache.factory import open_store
from llmhost.cache.failover import FailoverStore
from llmhost.cache.memory import MemoryStore
from llmhost.cache.redis_address import redis_address
from llmhost.core.errors import UsageError
from llmhost.core.server_config import CacheConfig, RedisConfig


def open_with(redis: RedisConfig | None, namespace: str = "default") -> CacheStore:
    return open_store(CacheConfig(redis=redis, namespace=namespace), b"secret")


def test_without_redis_it_is_memory() -> None:
    assert isinstance(open_with(None), MemoryStore)


def test_with_redis_it_fails_over() -> None:
    assert isinstance(open_with(RedisConfig(url="redis://localhost")), FailoverStore)


@pytest.mark.parametrize(
    ("url", "host", "port", "db"),
    [
        ("redis://cache.example", "cache.example", 6379, 0),
        ("redis://cache.example:7000/3", "cache.example", 7000, 3),
        ("redis://[::1]:7000", "::1", 7000, 0),
        ("rediss://cache.example:7000?db=2", "cache.example", 7000, 2),
        ("redis://", "localhost", 6379, 0),
    ],
)
def test_urls(url: str, host: str, port: int, db: int) -> None:
    address = redis_address(RedisConfig(url=url, host="ignored", port=1))
    assert (address.host, address.port, address.db) == (host, port, db)
    assert (address.tls is not None) == url.startswith("rediss")


def test_credentials_are_decoded() -> None:
    address = redis_address(RedisConfig(url="redis://us%40er:p%2Fw%3A@host"))
    assert (address.username, address.password) == ("us@er", "p/w:")


def test_a_unix_socket() -> None:
    address = redis_address(RedisConfig(url="unix://user:pw@/run/my%20redis.sock?db=1"))
    assert (address.path, address.db, address.username, address.password) == ("/run/my redis.sock", 1, "user", "pw")


@pytest.mark.parametrize(
    ("host", "tls", "encrypted"),
    [
        ("cache.example", None, True),
        ("10.0.0.5", None, True),
        ("127.0.0.1", None, False),
        ("::1", None, False),
        ("localhost", None, False),
        ("localhost.example", None, True),
        ("127.0.0.1", True, True),
        ("cache.example", False, False),
    ],
)
def test_tls_is_on_unless_the_host_is_loopback(host: str, tls: bool | None, encrypted: bool) -> None:
    assert (redis_address(RedisConfig(host=host, tls=tls)).tls is not None) == encrypted


def test_tls_false_does_not_weaken_a_url_that_asks_for_it() -> None:
    assert redis_address(RedisConfig(url="rediss://host", tls=False)).tls is not None


def test_tls_true_encrypts_a_plain_url() -> None:
    assert redis_address(RedisConfig(url="redis://host", tls=True)).tls is not None


def test_certificate_and_name_are_always_verified() -> None:
    address = redis_address(RedisConfig(url="rediss://host"))
    assert address.tls is not None
    context = address.tls.get()
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@host",
        "redis://user:hunter2@host:port",
        "redis://user:hunter2@host/database",
        "rediss://user:hunter2@host?ssl_cert_reqs=none",
        "rediss://user:hunter2@host?ssl_check_hostname=no",
        "redis://host?password=hunter2&hunter2-user=x",
        "rediss://user:hunter2@host?ssl_ca_certs=/nonexistent/hunter2.pem",
        "hunter2",
        "redis://user:hunter2@[bad",
    ],
)
def test_what_can_never_work_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_with(RedisConfig(url=url))
    assert "hunter2" not in caught.value.message + caught.value.hint
    assert caught.value.__cause__ is None


def test_a_certificate_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing of the kind")
    with pytest.raises(UsageError, match="PEM"):
        open_with(RedisConfig(url=f"rediss://host?ssl_ca_certs={tmp_path}/ca.pem"))


def test_neither_url_nor_host() -> None:
    with pytest.raises(UsageError, match="neither"):
        open_with(RedisConfig())


@pytest.mark.parametrize("namespace", ["", "a}b", "a*", "a b", "x" * 65, "ä"])
def test_a_namespace_that_would_break_keys_is_refused(namespace: str) -> None:
    with pytest.raises(UsageError, match="namespace"):
        open_with(RedisConfig(url="redis://localhost"), namespace)


def test_no_repr_shows_a_credential() -> None:
    config = RedisConfig(url="redis://hunter1:hunter2@host", username="hunter1", password="hunter2", host="host")
    address = redis_address(config)
    assert "hunter" not in repr((config, address, address.connection(), CacheConfig(redis=config)))
