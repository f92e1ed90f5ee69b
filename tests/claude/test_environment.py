"""What Claude Code is told, decided variable by variable."""

from __future__ import annotations

import pytest

from llmhost.claude.environment import ASTRAY, TIERS, Route, build_environment

ROUTE = Route("http://127.0.0.1:8001", "token", "qwen3-coder:30b", 65_536, 8192)


def build(exported=None, from_settings=None, route=ROUTE):
    return build_environment(route, exported or {}, from_settings or {})


def test_the_way_the_token_and_every_tier_are_set():
    variables = build().variables
    assert variables["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:8001"
    assert variables["ANTHROPIC_AUTH_TOKEN"] == "token"
    names = ["ANTHROPIC_MODEL", "CLAUDE_CODE_SUBAGENT_MODEL", *(f"ANTHROPIC_DEFAULT_{tier}_MODEL" for tier in TIERS)]
    assert {variables[name] for name in names} == {"qwen3-coder:30b"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLAUDE_CODE_MAX_CONTEXT_TOKENS", "65536"),
        ("CLAUDE_CODE_MAX_OUTPUT_TOKENS", "8192"),
        ("CLAUDE_CODE_ATTRIBUTION_HEADER", "0"),
        ("CLAUDE_CODE_DISABLE_TERMINAL_TITLE", "1"),
        ("CLAUDE_ENABLE_STREAM_WATCHDOG", "0"),
        ("API_TIMEOUT_MS", "3000000"),
        ("DISABLE_TELEMETRY", "1"),
    ],
)
def test_the_model_is_described_and_the_client_tuned(name, value):
    assert build().variables[name] == value


@pytest.mark.parametrize(
    ("context", "max_output", "told"),
    [(65_536, 8192, "8192"), (16_384, 8192, "4096"), (131_072, 20_000, "20000"), (None, 8192, "8192")],
)
def test_a_small_window_is_not_eaten_by_the_answers_share(context, max_output, told):
    route = Route("http://h", "t", "m", context, max_output)
    assert build(route=route).variables["CLAUDE_CODE_MAX_OUTPUT_TOKENS"] == told


@pytest.mark.parametrize(
    ("wished", "told"),
    [("1000000", "65536"), ("32000", "32000"), ("0", "65536"), ("lots", "65536"), ("", "65536")],
)
def test_the_window_is_the_one_really_loaded_unless_a_smaller_one_is_wished(wished, told):
    name = "CLAUDE_CODE_MAX_CONTEXT_TOKENS"
    assert build({name: wished}).variables[name] == told
    assert build(from_settings={name: wished}).session_settings({})["env"][name] == told


def test_an_unknown_window_is_not_invented():
    assert "CLAUDE_CODE_MAX_CONTEXT_TOKENS" not in build(route=Route("http://h", "t", "m", None, 8192)).variables


def test_what_only_tunes_gives_way_to_the_user_and_is_told_as_kept():
    exported = {"API_TIMEOUT_MS": "5000", "DISABLE_TELEMETRY": "1", "PATH": "/bin"}
    found = build(exported, {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "1234"})
    whole = found.applied_to(exported)
    assert whole["API_TIMEOUT_MS"] == "5000"
    assert "CLAUDE_CODE_MAX_OUTPUT_TOKENS" not in whole  # the settings file sets it
    assert set(found.kept) == {"API_TIMEOUT_MS", "CLAUDE_CODE_MAX_OUTPUT_TOKENS"}
    assert found.replaced == ()


def test_what_must_be_ours_replaces_the_users_and_is_told():
    exported = {"ANTHROPIC_BASE_URL": "https://api.example", "ANTHROPIC_MODEL": ROUTE.model, "ANTHROPIC_API_KEY": "sk"}
    found = build(
        exported, {"apiKeyHelper": "print-key", "CLAUDE_CODE_USE_BEDROCK": "1", "CLAUDE_CODE_USE_VERTEX": "0"}
    )
    assert found.replaced == ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_KEY", "CLAUDE_CODE_USE_BEDROCK", "apiKeyHelper")
    whole = found.applied_to(exported)
    assert whole["ANTHROPIC_BASE_URL"] == ROUTE.url
    assert not set(ASTRAY) & set(whole)


def test_a_shell_that_has_evaluated_llmhost_env_is_no_conflict():
    exported = build().variables
    again = build(exported)
    assert (again.replaced, again.kept) == ((), ())
    assert again.variables == exported


@pytest.mark.parametrize(
    ("exported", "no_proxy"),
    [
        ({}, None),
        ({"NO_PROXY": "corp"}, None),
        ({"HTTP_PROXY": "http://p:1"}, "127.0.0.1"),
        ({"https_proxy": "http://p:1", "NO_PROXY": "corp, .example"}, "corp,.example,127.0.0.1"),
        ({"ALL_PROXY": "x", "no_proxy": "127.0.0.1,a", "NO_PROXY": "a"}, "a,127.0.0.1"),
    ],
)
def test_a_proxy_of_the_users_is_not_asked_for_loopback(exported, no_proxy):
    variables = build(exported).variables
    assert variables.get("NO_PROXY") == variables.get("no_proxy") == no_proxy


def test_the_session_settings_win_where_requests_go_and_only_there():
    theirs = {
        "permissions": {"allow": ["Bash"]},
        "disableAutoMode": False,
        "apiKeyHelper": "print-key",
        "env": {"ANTHROPIC_BASE_URL": "https://elsewhere", "MINE": "1", "CLAUDE_CODE_USE_BEDROCK": "1"},
    }
    found = build().session_settings(theirs)
    assert found["permissions"] == {"allow": ["Bash"]}
    assert found["disableAutoMode"] is False
    assert found["apiKeyHelper"] == ""
    assert found["env"]["ANTHROPIC_BASE_URL"] == ROUTE.url
    assert found["env"]["MINE"] == "1"
    assert found["env"]["CLAUDE_CODE_USE_BEDROCK"] == ""
    assert "API_TIMEOUT_MS" not in found["env"]  # tuning stays below the user's own settings files


def test_auto_mode_is_off_when_nobody_says_otherwise():
    assert build().session_settings({})["disableAutoMode"] == "disable"
