"""The JSON contract: one envelope on standard output, whatever happens, and the exit codes."""

from __future__ import annotations

import json

import jsonschema
import pytest

ENVELOPE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["schema", "command", "ok", "data", "warnings", "errors"],
    "properties": {
        "schema": {"const": "llmhost/1"},
        "command": {"type": "string"},
        "ok": {"type": "boolean"},
        "data": {"type": "object"},
        "warnings": {"type": "array", "items": {"type": "string"}},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["code", "message", "hint"],
                "properties": {
                    "code": {"type": "string", "pattern": "^[a-z_]+$"},
                    "message": {"type": "string", "minLength": 1},
                    "hint": {"type": "string"},
                },
            },
        },
    },
}


@pytest.fixture
def envelope(llmhost):
    """Run with --json; exit code and the envelope, which must be the only thing on standard output."""

    def run(*args):
        code, out, _ = llmhost(*args)
        document = json.loads(out)
        jsonschema.validate(document, ENVELOPE)
        assert document["ok"] == (code == 0 and not document["errors"])
        return code, document

    return run


@pytest.mark.parametrize(
    ("line", "command", "keys"),
    [
        ("--version", "version", {"version"}),
        ("--help", "help", {"help"}),
        ("", "help", {"help"}),
        ("cache --help", "help", {"help"}),
        ("up --help", "help", {"help"}),
        ("status", "status", {"fleet", "gateway", "cache", "prefix", "requests", "advice"}),
        ("status --refresh", "status", {"fleet"}),
        ("down", "down", {"destroyed", "still_billing"}),
        ("down --all", "down", {"destroyed", "still_billing"}),
        ("doctor", "doctor", {"checks"}),
        ("logs", "logs", {"lines"}),
        ("config path", "config path", {"path"}),
        ("config show", "config show", {"settings", "file"}),
        ("config init --skip-redis", "config init", {"path"}),
        ("up --provider local --dry-run", "up", {"plan", "nodes"}),
    ],
)
def test_what_succeeds_is_ok(line, command, keys, envelope):
    code, document = envelope("--json", *line.split())
    assert (code, document["command"], document["ok"]) == (0, command, True)
    assert keys <= set(document["data"])


@pytest.mark.parametrize(
    ("line", "exit_code", "command", "error"),
    [
        ("stauts", 2, "stauts", "usage"),
        ("--nope status", 2, "status", "usage"),
        ("--fleet", 2, "help", "usage"),
        ("status --json=1", 2, "status", "usage"),
        ("status --nope", 2, "status", "usage"),
        ("status extra", 2, "status", "usage"),
        ("status --watch", 2, "status", "usage"),
        ("cache", 2, "cache", "usage"),
        ("cache nope", 2, "cache nope", "usage"),
        ("cache clear --scope everything", 2, "cache clear", "usage"),
        ("logs --lines many", 2, "logs", "usage"),
        ("logs --source nowhere", 2, "logs", "no_such_source"),
        ("logs n7", 2, "logs", "no_such_node"),
        ("logs --follow --source nowhere", 2, "logs", "no_such_source"),
        ("up", 4, "up", "no_key"),
        ("up --provider vast", 4, "up", "no_key"),
        ("up --provider moon", 2, "up", "config_invalid"),
        ("up --provider local", 2, "up", "not_confirmed"),
        ("up --provider local --count 2", 2, "up", "later"),
        ("up --provider local --count 0", 2, "up", "usage"),
        ("cache clear --namespace x", 2, "cache clear", "later"),
        ("proxy --model m:1", 5, "proxy", "ollama_missing"),
        ("up --gpu=RTX_4090", 4, "up", "no_key"),
        ("up --provider local --backend ollama --yes", 5, "up", "ollama_missing"),
        ("proxy --backend ollama", 5, "proxy", "ollama_missing"),
        ("proxy --socket a --port 1", 2, "proxy", "usage"),
        ("down n7", 2, "down", "no_such_node"),
        ("down n7 --all", 2, "down", "usage"),
        ("config init --redis-url x --skip-redis", 2, "config init", "usage"),
        ("config init --gateway-port 70000", 2, "config init", "config_invalid"),
        ("config init --ollama-host ftp://x", 2, "config init", "config_invalid"),
        ("env", 7, "env", "no_fleet"),
        ("cache stats", 7, "cache stats", "no_fleet"),
        ("cache clear", 7, "cache clear", "no_fleet"),
        ("claude -p hello --json", 7, "claude", "no_fleet"),
        *((f"{name} --any thing", 2, name, "later") for name in ("scale",)),
        *((f"{name} --any thing", 2, name, "usage") for name in ("tunnel", "ssh", "restart")),
        *((name, 7, name, "no_fleet") for name in ("tunnel", "ssh", "restart")),
        ("ssh n1 -- ls", 7, "ssh", "no_fleet"),
        ("tunnel --stop --status", 2, "tunnel", "usage"),
        ("tunnel --repin n1", 7, "tunnel", "no_fleet"),
        ("up --provider ssh", 2, "up", "no_host"),
        ("up --provider ssh --host user@:1", 2, "up", "bad_host"),
        ("up --host -x", 2, "up", "bad_host"),
        ("up --host a@b --transport pigeon", 2, "up", "config_invalid"),
        ("up --provider local --host a@b", 2, "up", "usage"),
        ("up --host a@b.invalid --identity /no/such/key", 4, "up", "key_unreadable"),
        *((name, 2, name, "later") for name in ("backend", "scale", "export", "dashboard")),
        ("extend 4h", 7, "extend", "nothing_rented"),
        ("extend soon", 2, "extend", "bad_duration"),
        ("gc --yes", 4, "gc", "no_key"),
        ("cache explain abc", 2, "cache explain", "later"),
    ],
)
def test_what_fails_is_told_in_the_same_envelope(line, exit_code, command, error, envelope, monkeypatch):
    claude = "/bin/true"  # is never reached
    monkeypatch.setenv("LLMHOST_CLAUDE_BIN", claude)
    code, document = envelope("--json", *line.split())
    assert (code, document["command"]) == (exit_code, command)
    assert [one["code"] for one in document["errors"]] == ([error] if error else [])


def test_the_status_of_no_fleet_has_the_contracts_shape_and_invents_nothing(envelope):
    _, document = envelope("status", "--json")
    data = document["data"]
    assert data["fleet"]["nodes"] == data["fleet"]["orphans"] == []
    assert data["gateway"]["state"] == "down"
    assert data["cache"]["hit_ratio"] is data["requests"]["p50_ms"] is data["prefix"]["reuse_ratio"] is None


def test_a_broken_configuration_is_an_envelope_too(envelope, home):
    home.config_file.parent.mkdir(parents=True)
    home.config_file.write_text("[gateway\n")
    code, document = envelope("--json", "env")
    assert (code, document["errors"][0]["code"]) == (2, "config_invalid")
    assert str(home.config_file) in document["errors"][0]["message"]
    assert home.config_file.read_text() == "[gateway\n"


def test_what_is_wrong_with_names_is_in_the_envelope_too(envelope, monkeypatch):
    monkeypatch.setenv("LLMHOST_GATEWAY_PROT", "1")
    for line in ("config show", "env"):
        _, document = envelope("--json", *line.split())
        (warning,) = document["warnings"]
        assert "did you mean LLMHOST_GATEWAY_PORT?" in warning


@pytest.mark.parametrize("line", ["tunnel", "up --provider local --count 2", "cache clear --namespace x"])
def test_what_comes_later_says_what_can_be_done_now(line, envelope):
    _, document = envelope("--json", *line.split())
    (error,) = document["errors"]
    assert error["hint"] == "llmhost up --provider local"
    assert "--provider local" not in error["message"]


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("--fleet a/b status", "--fleet"),
        ("up --port 0", "--port"),
        ("up --provider moon", "--provider"),
        ("proxy --port 0", "--port"),
        ("config init --gateway-port 0", "--gateway-port"),
    ],
)
def test_a_wrong_option_is_called_by_its_name(line, option, envelope):
    _, document = envelope("--json", *line.split())
    (error,) = document["errors"]
    assert error["code"] == "config_invalid"
    assert error["message"].startswith(f"{option} should ")
    assert error["hint"] == "Give it another value, or leave the option out."


def test_no_number_of_nodes_below_one(envelope):
    _, document = envelope("--json", "up", "--provider", "local", "--count", "0")
    assert "positive number" in document["errors"][0]["message"]


def test_a_missing_claude_says_how_to_install_it(envelope, monkeypatch):
    monkeypatch.setenv("LLMHOST_CLAUDE_BIN", "/no/such/claude")
    code, document = envelope("--json", "claude", "-p", "x")
    assert (code, document["errors"][0]["code"]) == (1, "claude_missing")


def test_a_state_directory_that_cannot_be_one_is_told(envelope, home):
    home.state.parent.mkdir()
    home.state.write_text("a file")
    code, document = envelope("--json", "--yes", "up", "--provider", "local")
    assert code == 1
    assert str(home.state) in document["errors"][0]["message"]


def test_an_unexpected_error_is_one_line_with_a_way_to_know_more(llmhost, home, capsys):
    home.root.joinpath("state").mkdir()
    home.state.mkdir()
    (home.state / "logs").write_text("not a folder")
    (home.state / "ledger.sqlite3").mkdir()
    code, out, _ = llmhost("--json", "status")
    document = json.loads(out)
    assert code != 0
    assert document["errors"][0]["message"]
