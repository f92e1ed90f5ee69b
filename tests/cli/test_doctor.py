"""`doctor`: every trouble seen, each with the next command."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from llmhost.core.server_config import RedisConfig
from llmhost.core.settings import Settings
from llmhost.fleet.check import Check
from llmhost.fleet.check_redis import check_redis, encrypted, shown
from llmhost.fleet.doctor import check_fleet
from tests.support.ollama_shelf import ollama_with
from tests.support.redis_server import RedisServer, make_certificates, need_binary, running
from tests.support.stack import Stack
from tests.support.system import free_port


@pytest.fixture
def doctor(llmhost, monkeypatch, tmp_path):
    """The checks by name, and the exit code. There is a `claude` that says its version."""
    claude = tmp_path / "claude"
    claude.write_text("#!/bin/sh\necho '9.8.7 (Claude Code)'\n")
    claude.chmod(0o755)
    monkeypatch.setenv("LLMHOST_CLAUDE_BIN", str(claude))

    def run(**environ):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        code, out, _ = llmhost("--json", "doctor")
        return {check["name"]: check for check in json.loads(out)["data"]["checks"]}, code

    return run


def test_a_fresh_machine_fails_nothing_and_says_how_to_begin(doctor):
    checks, code = doctor()
    assert code == 0
    assert list(checks) == [
        *("python", "config", "state", "claude", "port", "ollama", "redis", "ssh", "key", "account"),
        *("supervisor", "gateway", "node", "cache"),
    ]
    assert checks["claude"]["detail"].startswith("9.8.7 (")
    assert checks["ollama"]["state"] == "warn"
    assert "rehearsal" in checks["ollama"]["command"]
    assert checks["redis"]["detail"].startswith("none is configured")


def test_a_wrong_configuration_is_a_failed_check_and_not_the_end(doctor, home):
    home.config_file.parent.mkdir(parents=True)
    home.config_file.write_text("[gateway]\nprot = 1\n")
    checks, code = doctor()
    assert (code, checks["config"]["state"]) == (1, "failed")
    assert "gateway.prot" in checks["config"]["detail"]
    assert checks["config"]["command"] == "Did you mean gateway.port?"
    assert checks["state"]["state"] == "ok"


def test_a_missing_claude_fails_with_how_to_install_it(doctor):
    checks, code = doctor(LLMHOST_CLAUDE_BIN="/no/such/claude")
    assert (code, checks["claude"]["state"]) == (1, "failed")


def test_a_state_directory_that_cannot_be_written_fails(doctor, home):
    home.state.parent.write_text("a file")
    checks, code = doctor()
    assert (code, checks["state"]["state"]) == (1, "failed")


def test_a_port_asked_for_by_name_must_be_free(doctor):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        checks, code = doctor(LLMHOST_GATEWAY_PORT=str(port))
    assert (code, checks["port"]["state"]) == (1, "failed")
    assert f"{port} is taken by" in checks["port"]["detail"]
    assert str(os.getpid()) in checks["port"]["detail"]


@pytest.mark.parametrize(
    ("models", "wanted", "state", "words"),
    [
        (["qwen3-coder:30b"], None, "ok", "1 model: qwen3-coder:30b"),
        (["qwen3-coder:30b", "b:1"], "b:1", "ok", "2 models"),
        (["qwen3-coder:30b"], "c:1", "warn", "c:1 is not among them"),
        ([], None, "warn", "0 models"),
    ],
)
def test_ollama_is_asked_for_its_models(models, wanted, state, words, doctor):
    with ollama_with(*models) as address:
        extra = {"MODEL_NAME": wanted} if wanted else {}
        checks, code = doctor(OLLAMA_HOST=address, **extra)
    assert (code, checks["ollama"]["state"]) == (0, state)
    assert words in checks["ollama"]["detail"]
    assert ("llmhost up" in checks["ollama"]["command"]) == (state == "warn")


def test_an_ollama_that_is_asked_for_by_name_must_be_there(doctor):
    checks, code = doctor(LLMHOST_BACKEND="ollama")
    assert (code, checks["ollama"]["state"]) == (1, "failed")


@pytest.fixture
def server(short_tmp):
    """A Redis with a password on a free port."""
    with running(RedisServer(need_binary("redis-7"), short_tmp / "redis", tcp=True, password="hunter2")) as server:
        yield server


def redis_check(**settings):
    return check_redis(Settings(**settings))


def test_a_redis_that_answers_is_ok_and_nothing_of_its_password_is_shown(server):
    check = redis_check(redis_url=server.url)
    assert (check.state, check.detail) == ("ok", f"redis://…@127.0.0.1:{server.port}: answers")
    by_parts = redis_check(redis_host="127.0.0.1", redis_port=server.port, redis_password="hunter2")
    assert by_parts == Check("redis", "ok", f"127.0.0.1:{server.port}: answers")


@pytest.mark.parametrize(
    ("password", "reason"), [("wrong-wrong", "refuses the user name or password"), (None, "asks for a password")]
)
def test_a_login_that_fails_is_told_without_the_password(password, reason, server):
    check = redis_check(redis_host="127.0.0.1", redis_port=server.port, redis_password=password)
    assert check.state == "warn"
    assert reason in check.detail
    assert "wrong-wrong" not in str(check)


def test_a_redis_that_is_full_is_noticed(server):
    server.ask("CONFIG", "SET", "maxmemory", 1)
    assert "it is full (OOM)" in redis_check(redis_url=server.url).detail


def test_a_redis_that_is_gone_costs_no_failure(server):
    url = server.url
    server.stop()
    assert redis_check(redis_url=url).detail.endswith("connection refused")


def test_tls_is_verified_and_its_troubles_are_told_apart(short_tmp, server):
    certificates = make_certificates(short_tmp / "tls")
    with running(RedisServer(need_binary("redis-7"), short_tmp / "secure", tls=certificates)) as secure:
        assert redis_check(redis_url=secure.url).detail.endswith("answers, with TLS")
        distrusted = redis_check(redis_url=secure.url.partition("?")[0])
        assert distrusted.detail.endswith("its certificate is not trusted")
    plain = redis_check(redis_host="127.0.0.1", redis_port=server.port, redis_tls=True)
    assert "does it speak TLS on this port?" in plain.detail


@pytest.mark.parametrize("url", ["redis://h:notaport", "nonsense", "http://h", "redis://[::1", "me:SECRET@h"])
def test_a_url_that_is_none_is_a_failed_check_and_not_shown(url, doctor):
    checks, code = doctor(REDIS_URL=url)
    assert (code, checks["config"]["state"]) == (1, "failed")
    assert url not in str(checks)


def test_whether_a_connection_is_encrypted_is_known_before_it_is_made():
    assert encrypted(RedisConfig(url="rediss://h"))
    assert not encrypted(RedisConfig(url="redis://h"))
    assert encrypted(RedisConfig(url="redis://h", tls=True))
    assert shown(RedisConfig(host="h", port=1, password="x")) == "h:1"


PICTURE = {
    "fleet": {
        "nodes": [{"id": "n1", "state": "ready", "model": "m", "backend": "ollama", "reason": None, "tunnel": None}]
    },
    "supervisor": {"state": "running", "pid": 5, "version": "0.1.0", "outdated": False, "reason": None},
    "gateway": {"state": "up", "url": "http://127.0.0.1:1", "context": 65536, "reason": None},
    "cache": {"state": "ok", "store": "memory"},
}


@pytest.mark.parametrize(
    ("part", "change", "name", "state", "words"),
    [
        ("cache", {}, "cache", "ok", "ok, kept in memory"),
        ("supervisor", {"state": "gone", "reason": "it crashed"}, "supervisor", "failed", "it crashed"),
        ("supervisor", {"state": "silent", "reason": "it hangs"}, "supervisor", "failed", "it hangs"),
        ("supervisor", {"outdated": True, "version": "0.0.9"}, "supervisor", "warn", "0.0.9"),
        ("gateway", {"state": "failed", "reason": "exit 3"}, "gateway", "failed", "exit 3"),
        ("gateway", {"state": "starting"}, "gateway", "warn", "starting"),
        ("node", {"state": "degraded", "reason": "no memory"}, "node n1", "failed", "no memory"),
        ("node", {"state": "loading"}, "node n1", "warn", "loading"),
        ("node", {"backend": "rehearsal"}, "node n1", "warn", "no model"),
        ("cache", {"state": "degraded", "store": "redis", "detail": "gone"}, "cache", "warn", "gone"),
        ("cache", {"state": "off"}, "cache", "ok", "off"),
    ],
)
def test_every_running_part_is_judged(part, change, name, state, words):
    picture = json.loads(json.dumps(PICTURE))
    (picture["fleet"]["nodes"][0] if part == "node" else picture[part]).update(change)
    found = {check.name: check for check in check_fleet(picture)}
    assert list(found) == ["supervisor", "gateway", "node n1", "cache"]
    assert found[name].state == state
    assert words in found[name].detail
    assert found[name].command.startswith("llmhost") == (state != "ok")


def test_a_supervisor_that_hangs_is_to_be_ended():
    supervisor = {**PICTURE["supervisor"], "state": "silent", "reason": "it hangs"}
    checks = {check.name: check for check in check_fleet({**PICTURE, "supervisor": supervisor})}
    assert checks["supervisor"].command == "llmhost down"


def test_a_frozen_supervisor_is_not_blamed_for_the_gateways_port():
    port = free_port()
    stack = Stack(LLMHOST_BACKEND="rehearsal", LLMHOST_GATEWAY_PORT=str(port))
    try:
        stack.up()
        pid = stack.json("status")["supervisor"]["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            found = stack.llmhost("--json", "doctor").json["data"]["checks"]
        finally:
            os.kill(pid, signal.SIGCONT)
    finally:
        stack.remove()
    checks = {check["name"]: check for check in found}
    assert checks["supervisor"]["command"] == "llmhost down"
    assert "port" not in checks


def test_the_text_marks_each_line_and_ends_with_a_verdict(doctor, llmhost, monkeypatch):
    monkeypatch.setenv("LLMHOST_GATEWAY_PORT", "0")
    code, out, _ = llmhost("doctor")
    assert code == 1
    assert "✗  config" in out
    assert out.rstrip().endswith("of 3 checks failed")
    assert Path(sys.executable).name in out
