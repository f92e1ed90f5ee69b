"""Settings: precedence, sources, errors that say where, secrets that stay secret."""

from __future__ import annotations

import pytest

from llmhost.core.errors import LlmhostError, UsageError
from llmhost.core.server_config import RedisConfig
from llmhost.core.settings import Settings, load_settings


@pytest.fixture
def load(tmp_path):
    """Settings from a file, a `.env` and an environment of the test's own."""
    file = tmp_path / "config.toml"
    work = tmp_path / "work"
    work.mkdir()

    def run(toml=None, dotenv=None, flags=None, **environ):
        if toml is not None:
            file.write_text(toml)
        if dotenv is not None:
            (work / ".env").write_text(dotenv)
        return load_settings(flags, environ=environ, cwd=work, config_file=file)

    run.file = file
    run.work = work
    return run


def test_each_layer_beats_the_next_and_is_named_as_the_source(load):
    toml, dotenv = "[gateway]\nport = 1001\n", "LLMHOST_GATEWAY_PORT=1002\n"
    shell = {"LLMHOST_GATEWAY_PORT": "1003"}
    runs = [
        load(),
        load(toml),
        load(toml, dotenv),
        load(toml, dotenv, **shell),
        load(toml, dotenv, {"gateway_port": 1004}, **shell),
    ]
    assert [(s.gateway_port, s.source("gateway_port")) for s in runs] == [
        (None, "default"),
        (1001, "file"),
        (1002, ".env LLMHOST_GATEWAY_PORT"),
        (1003, "env LLMHOST_GATEWAY_PORT"),
        (1004, "flag"),
    ]


@pytest.mark.parametrize(
    ("variable", "value", "setting", "read"),
    [
        ("MODEL_NAME", "m:1", "model", "m:1"),
        ("API_PORT", "8123", "api_port", 8123),
        ("OLLAMA_HOST", "box", "ollama_host", "box"),
        ("REDIS_URL", "rediss://h", "redis_url", "rediss://h"),
        ("REDIS_PORT", "7000", "redis_port", 7000),
        ("REDIS_TLS", "off", "redis_tls", False),
        ("CACHE_TTL", "60", "cache_ttl", 60),
        ("CACHE_MAX_MB", "5", "cache_max_mb", 5),
        ("VAST_URL", "http://localhost:1", "vast_url", "http://localhost:1"),
        ("LLMHOST_CLAUDE_BIN", "/x/claude", "claude_bin", "/x/claude"),
        ("LLMHOST_MODEL", "m:2", "model", "m:2"),
    ],
)
def test_the_names_users_already_have_are_honoured(load, variable, value, setting, read):
    settings = load(**{variable: value})
    assert (getattr(settings, setting), settings.source(setting)) == (read, f"env {variable}")


def test_the_own_name_beats_the_foreign_one_and_an_empty_variable_counts_as_unset(load):
    both = load(LLMHOST_MODEL="ours", MODEL_NAME="theirs")
    assert both.model == "ours"
    assert load(LLMHOST_MODEL="", MODEL_NAME="theirs").source("model") == "env MODEL_NAME"


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ('model = "a"\n[gateway\nport = 1', ["config.toml", "line 2"]),
        ("[gateway]\n# port\nport = 70000", ["gateway.port", "config.toml line 3", "65535", "70000"]),
        ('[cache]\nttl = "soon"', ["cache.ttl", "line 2", "integer", "soon"]),
        ("[gateway]\nprot = 1", ["unknown setting gateway.prot", "line 2"]),
        ("modle = 'x'", ["unknown setting modle", "line 1"]),
        ("gateway_port = 1\n[gateway]\nport = 2", ["gateway.port", "twice"]),
        ('backend = "gpt"', ["backend", "line 1", "'ollama' or 'rehearsal'"]),
        ("model = 5", ["model", "line 1", "string"]),
        ("[gateway.deep]\nport = 1", ["unknown setting gateway.deep"]),
    ],
)
def test_a_wrong_file_is_told_with_its_place_and_left_as_it_is(load, toml, words):
    with pytest.raises(UsageError) as caught:
        load(toml)
    assert caught.value.code == "config_invalid"
    assert all(word in caught.value.message for word in words), caught.value.message
    assert load.file.read_text() == toml


def test_a_typo_gets_the_name_that_was_meant(load):
    with pytest.raises(UsageError) as caught:
        load("[gateway]\nprot = 1")
    assert caught.value.hint == "Did you mean gateway.port?"
    assert load("", LLMHOST_GATEWAY_PROT="1").warnings == (
        "LLMHOST_GATEWAY_PROT in the environment is not a setting; did you mean LLMHOST_GATEWAY_PORT?",
    )


def test_a_wrong_variable_is_named_but_a_secret_one_is_not_quoted(load):
    with pytest.raises(UsageError, match="the environment variable CACHE_TTL"):
        load(CACHE_TTL="later")
    with pytest.raises(UsageError) as caught:
        load(flags={"redis_password": ["hunter2"]})
    assert "hunter2" not in caught.value.message


def test_a_wrong_value_that_something_stronger_overrides_does_no_harm(load):
    assert load("[api]\nport = 0", API_PORT="8123").api_port == 8123


@pytest.mark.parametrize("spoil", ["folder", "bytes"])
def test_an_unreadable_file_is_an_error_that_names_it(load, spoil):
    if spoil == "folder":
        load.file.mkdir()
    else:
        load.file.write_bytes(b'model = "\xff\xfe"')
    with pytest.raises(LlmhostError) as caught:
        load()
    assert caught.value.code == "config_unreadable"
    assert str(load.file) in caught.value.message


def test_a_dotenv_of_another_project_is_read_only_for_names_of_ours(load):
    settings = load(dotenv="DEBUG=1\nDATABASE_URL=x\nREDIS_HOST=cache.example\nEMPTY\n")
    assert settings.redis_host == "cache.example"
    assert settings.source("redis_host") == ".env REDIS_HOST"


def test_secrets_are_masked_wherever_settings_are_shown(load):
    settings = load(
        REDIS_URL="rediss://me:hunter2-hunter2@h:1/0?ssl_keyfile=x",
        REDIS_PASSWORD="hunter2-hunter2-long",
        VAST_API_KEY="hunter2hunter2hunter2",
    )
    shown = {entry.name: entry.value for entry in settings.entries()}
    assert shown["redis_url"] == "rediss://…@h:1/0"
    assert shown["redis_password"] == "…long"
    assert "hunter2hunter2" not in str(shown) + repr(settings) + str(settings)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        (None, "http://127.0.0.1:11434"),
        ("", "http://127.0.0.1:11434"),
        ("box", "http://box:11434"),
        ("box:123", "http://box:123"),
        (":123", "http://127.0.0.1:123"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:123", "http://127.0.0.1:123"),
        ("http://0.0.0.0:123", "http://127.0.0.1:123"),
        ("http://box:123/", "http://box:123"),
        ("http://box", "http://box:80"),
        ("HTTPS://box", "https://box:443"),
        ("https://box:8443/path", "https://box:8443"),
        ("[::1]:123", "http://[::1]:123"),
        ("::1", "http://[::1]:11434"),
        ("[::]", "http://127.0.0.1:11434"),
    ],
)
def test_the_address_of_ollama_is_read_as_ollama_reads_it(host, url):
    assert Settings(ollama_host=host).ollama_url == url


@pytest.mark.parametrize("host", ["ftp://box", "box:notaport", "box:99999"])
def test_an_address_that_is_none_is_a_usage_error(host):
    with pytest.raises(UsageError, match=r"ollama\.host"):
        _ = Settings(ollama_host=host).ollama_url


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"redis_host": "cache.example"}, RedisConfig(host="cache.example", tls=True)),
        ({"redis_host": "localhost"}, RedisConfig(host="localhost", tls=False)),
        ({"redis_host": "127.0.0.2", "redis_tls": True}, RedisConfig(host="127.0.0.2", tls=True)),
        ({"redis_host": "cache.example", "redis_tls": False}, RedisConfig(host="cache.example", tls=False)),
        ({"redis_url": "redis://h", "redis_host": "other"}, RedisConfig(url="redis://h")),
    ],
)
def test_where_redis_is_and_whether_it_is_spoken_to_in_tls(given, expected):
    assert Settings(**given).redis_config() == expected


def test_a_host_from_a_stronger_place_beats_a_url_from_a_weaker_one(load):
    settings = load('[redis]\nurl = "redis://old"', REDIS_HOST="localhost")
    assert settings.redis_config() == RedisConfig(host="localhost", tls=False)


def test_the_server_gets_sizes_and_times_in_its_own_units(load):
    settings = load(CACHE_MAX_MB="2", LLMHOST_CACHE_TIMEOUT_MS="20", LLMHOST_PROXY_PING_S="0.5")
    assert settings.cache_config().max_bytes == 2 * 1024 * 1024
    assert settings.cache_config().timeout_s == 0.02
    assert settings.timing().ping == 0.5
