"""The whole way of a user on one machine: plan, up, an answer, status, down."""

from __future__ import annotations

import json

from tests.live.conftest import StackFactory


def test_from_nothing_to_an_answer_and_back_to_nothing(new_stack: StackFactory) -> None:
    stack = new_stack()
    assert stack.status()["gateway"]["state"] == "down"

    plan = stack.json("up", "--provider", "local", "--dry-run")["plan"]
    assert plan["price_usd_per_hour"] in (0, None)
    assert not stack.leftovers()["processes"], "--dry-run starts nothing"

    up = stack.llmhost("up", "--provider", "local", "--yes").expect()
    assert "llmhost claude" in up.stdout + up.stderr, "success names the next command"
    assert "rehearsal" in up.stdout + up.stderr

    answer = stack.claude("-p", "hello").expect()
    assert "no model is behind this answer" in answer.stdout

    status = stack.status()
    (node,) = status["fleet"]["nodes"]
    assert (node["state"], node["backend"], status["gateway"]["state"]) == ("ready", "rehearsal", "up")
    assert status["requests"]["total"] >= 1
    assert status["requests"]["errors"] == 0

    assert [node["verified"] for node in stack.down()["destroyed"]] == [True]
    assert stack.leftovers() == {"processes": {}, "sockets": [], "locks": []}
    assert stack.status()["fleet"]["nodes"] == []


def test_a_second_up_changes_nothing_and_a_second_down_neither(new_stack: StackFactory) -> None:
    stack = new_stack()
    stack.up()
    before = stack.status()
    stack.up()
    after = stack.status()
    assert after["gateway"] == before["gateway"]
    assert [node["id"] for node in after["fleet"]["nodes"]] == [node["id"] for node in before["fleet"]["nodes"]]
    stack.down()
    assert stack.down()["destroyed"] == []


def test_claude_without_a_fleet_says_what_to_do(new_stack: StackFactory) -> None:
    stack = new_stack()
    refused = stack.claude("-p", "hello").expect(7)
    assert "llmhost up" in refused.stderr
    assert refused.stdout == ""
    as_json = stack.llmhost("--json", "claude", "-p", "hello").expect(7)
    assert json.loads(as_json.stdout)["ok"] is False


def test_env_lets_any_client_in(new_stack: StackFactory) -> None:
    stack = new_stack()
    stack.up()
    lines = stack.llmhost("env").expect().stdout
    names = {line.removeprefix("export ").split("=", 1)[0] for line in lines.splitlines() if line.startswith("export ")}
    assert {"ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_MAX_CONTEXT_TOKENS"} <= names
    assert stack.token in lines
