"""The Redis URL: what is refused before it reaches the gateway, and that its password is never shown."""

from __future__ import annotations

import pytest

from llmhost.cache.redis_address import redis_address
from llmhost.core.addresses import without_password
from llmhost.core.errors import UsageError
from llmhost.core.server_config import RedisConfig
from llmhost.core.settings import load_settings


@pytest.mark.parametrize(
    "url",
    [
        "default:SECRETPW@h:6379",
        "redis://user:SEC/RET@h",
        "rediss://user:SEC#RET@h",
        "rediss://user:SEC?RET@h",
        "redis://user:SEC@RET/x@h",
        "redis://user:1@SEC/RET@h",
        "redis://SECRET@h",
        "redis://user:SECRET",
        "redis://[user:SECRET@h",
        "redis://user:SECRET@h:SECRET",
        "redis://h/0?password=SECRET",
        "SECRET",
    ],
)
def test_no_part_of_a_password_is_shown_however_it_was_written(url):
    assert not any(part in without_password(url) for part in ("SEC", "RET"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://h:6379/1", "redis://h:6379/1"),
        ("rediss://me:pw@h.example:1/0?ssl_keyfile=x#y", "rediss://…@h.example:1/0"),
        ("redis://:pw@[::1]:6379", "redis://…@[::1]:6379"),
        ("unix://me:pw@/run/redis.sock?db=1", "unix://…@/run/redis.sock"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_the_rest_of_the_address_is_shown(url, shown):
    assert without_password(url) == shown


BAD = [
    ("foo bar", "redis://"),
    ("h:6379", "redis://"),
    ("http://h", "redis://"),
    ("redis:h", "redis://"),
    ("redis://", "host"),
    ("redis:///0", "host"),
    ("redis://:SECRET@", "host"),
    ("redis://h:port", "port"),
    ("redis://h:70000", "port"),
    ("redis://[::1", "address"),
    ("redis://h/one", "database"),
    ("redis://h?db=-1", "database"),
    ("redis://h o", "space"),
    ("redis://user:SEC/RET@h", "%2F"),
    ("rediss://user:SEC?RET@h", "%2F"),
    ("rediss://user:SEC#RET@h", "%2F"),
    ("redis://user:1@SEC/RET@h", "%2F"),
    ("unix://user:SEC/RET@/run/x", "%2F"),
    ("unix://", "path"),
    ("redis://h?timeout=3", "option"),
]


@pytest.mark.parametrize(("url", "word"), BAD)
def test_a_malformed_url_is_refused_with_its_place_and_never_quoted(url, word, tmp_path):
    with pytest.raises(UsageError) as caught:
        load_settings(environ={"REDIS_URL": url}, cwd=tmp_path, config_file=tmp_path / "none")
    assert caught.value.code == "config_invalid"
    assert "the environment variable REDIS_URL" in caught.value.message
    assert word in caught.value.message
    assert url not in caught.value.message
    assert not any(part in caught.value.message for part in ("SEC", "RET"))


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "REDIS://h",
        "redis://h:1/2",
        "redis://[::1]:1",
        "redis://h/?db=3",
        "redis://user:p%2Fw%40@h",
        "redis://:p@w:x@h",
        "unix:///run/a@b.sock",
        "unix://me:pw@/run/x.sock?db=1",
    ],
)
def test_a_url_that_is_accepted_is_one_the_gateway_can_use(url, tmp_path):
    settings = load_settings({"redis_url": url}, environ={}, cwd=tmp_path, config_file=tmp_path / "none")
    assert redis_address(RedisConfig(url=settings.redis_url))


def test_config_init_refuses_what_could_not_be_used(llmhost, home):
    code, out, err = llmhost("config", "init", "--redis-url", "foo bar")
    assert (code, out) == (2, "")
    assert "--redis-url" in err
    assert "foo bar" not in err
    assert not home.config_file.exists()
