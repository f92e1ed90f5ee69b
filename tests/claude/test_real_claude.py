"""The real Claude Code, launched as `llmhost claude` launches it, against a server that records what it sends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.claude import claude_binary, home_environment
from tests.support.recorder import recording
from tests.support.terminal import Terminal

LAUNCH = [sys.executable, "-m", "tests.support.claude_at"]
ROOT = Path(__file__).parents[2]
TOKEN = "llmh_recorded-token"
MODEL = "qwen3-coder:30b"
LIMIT_S = 60


@pytest.fixture
def recorder():
    with recording() as found:
        yield found


@pytest.fixture
def home(tmp_path):
    return tmp_path / "home"


@pytest.fixture
def work(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(home, tmp_path):
    claude_binary()  # or the test ends here
    return {
        **home_environment(home),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "CLAUDE_CODE_MAX_RETRIES": "0",
    }


@pytest.fixture
def start(recorder, environment, work):
    """Starts a program, normally the launch, without input; whatever still runs at the end is killed."""
    with ExitStack() as running:

        def run(*args, command=(*LAUNCH, recorder.url, TOKEN, MODEL), **env):
            nothing = subprocess.DEVNULL
            whole = {**environment, **env}
            process = subprocess.Popen(
                [*command, *args],
                env=whole,
                cwd=work,
                stdin=nothing,
                stdout=nothing,
                stderr=nothing,
                start_new_session=True,  # signals meant for it reach nobody else
            )
            running.callback(process.wait)
            running.callback(process.kill)
            return process

        yield run


@pytest.fixture
def ask(recorder, environment, work):
    """One run to its end: exit code, standard output, standard error."""

    def ask(*args, stdin="", **env):
        argv = [*LAUNCH, recorder.url, TOKEN, MODEL, *args]
        whole = {**environment, **env}
        done = subprocess.run(argv, env=whole, cwd=work, input=stdin, capture_output=True, text=True, timeout=LIMIT_S)
        return done.returncode, done.stdout, done.stderr

    return ask


def user_settings(home, document):
    folder = home / ".claude"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.json").write_text(json.dumps(document))


def test_the_request_comes_to_us_with_our_token_and_model_and_the_answer_goes_out(ask, recorder):
    code, out, err = ask("-p", "hello")
    assert (code, out.strip()) == (0, recorder.answer), err
    (request,) = recorder.messages
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert "x-api-key" not in request.headers
    assert request.body["model"] == MODEL
    assert request.body["max_tokens"] == 8192


def test_the_prompt_is_one_that_can_be_cached_and_extended(ask, recorder):
    ask("-p", "hello")
    (request,) = recorder.messages
    assert not any("x-anthropic-billing-header" in block["text"] for block in request.body["system"])
    assert {message["role"] for message in request.body["messages"]} == {"user"}


def test_standard_input_passes_through(ask, recorder):
    ask("-p", "review this", stdin="diff --git a/x b/x\n+the added line\n")
    assert "+the added line" in json.dumps(recorder.messages[0].body)


@pytest.mark.parametrize("tier", ["opus", "sonnet", "haiku"])
def test_every_tier_is_the_loaded_model(tier, ask, recorder):
    ask("-p", "hello", "--model", tier)
    assert recorder.messages[0].body["model"] == MODEL


def test_an_exit_code_of_claude_is_ours(ask):
    code, _, err = ask("-p", "hello", "--no-such-option")
    assert code == 1
    assert "unknown option" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_ends_it_exactly_as_it_ends_claude(number, start, recorder):
    recorder.hold.clear()

    def end(process):
        recorder.wait_for_message()
        recorder.arrived.clear()
        process.send_signal(number)
        return process.wait(LIMIT_S)

    route = {"ANTHROPIC_BASE_URL": recorder.url, "ANTHROPIC_AUTH_TOKEN": TOKEN, "ANTHROPIC_MODEL": MODEL}
    ours = end(start("-p", "hello"))
    assert ours == end(start("-p", "hello", command=[claude_binary()], **route))


def test_the_token_is_in_no_argument_list(start, recorder):
    recorder.hold.clear()
    process = start("-p", "hello")
    recorder.wait_for_message()
    argv = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    assert b"--settings" in argv
    assert b"-p\0hello" in argv
    assert TOKEN.encode() not in argv


ELSEWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize("place", ["user", "project", "argument", "shell"])
def test_settings_that_name_another_address_do_not_lead_requests_away(place, ask, recorder, home, work):
    theirs = {"ANTHROPIC_BASE_URL": ELSEWHERE, "ANTHROPIC_AUTH_TOKEN": "theirs", "ANTHROPIC_MODEL": "theirs"}
    args, env = (), {}
    if place == "user":
        user_settings(home, {"env": theirs})
    elif place == "project":
        (work / ".claude").mkdir()
        (work / ".claude" / "settings.json").write_text(json.dumps({"env": theirs}))
    elif place == "argument":
        args = ("--settings", json.dumps({"env": theirs}))
    else:
        env = theirs
    code, _, err = ask("-p", "hello", *args, **env)
    assert code == 0, err
    (request,) = recorder.messages
    assert (request.headers["authorization"], request.body["model"]) == (f"Bearer {TOKEN}", MODEL)
    assert err.count("overrides what you have set") == 1
    assert "ANTHROPIC_BASE_URL, ANTHROPIC_AUTH_TOKEN, ANTHROPIC_MODEL" in err


@pytest.mark.parametrize(
    "document",
    [
        {"env": {"ANTHROPIC_API_KEY": "sk-theirs"}},
        {"apiKeyHelper": "echo sk-theirs"},
        {"env": {"CLAUDE_CODE_USE_BEDROCK": "1"}},
        {"env": {"CLAUDE_CODE_USE_VERTEX": "1"}},
        {"env": {"HTTP_PROXY": ELSEWHERE, "NO_PROXY": "corp.example"}},
    ],
    ids=["key", "helper", "bedrock", "vertex", "proxy"],
)
def test_no_credential_or_detour_of_the_users_settings_takes_part(document, ask, recorder, home):
    user_settings(home, document)
    code, _, err = ask("-p", "hello")
    assert code == 0, err
    (request,) = recorder.messages
    assert "x-api-key" not in request.headers
    assert request.headers["authorization"] == f"Bearer {TOKEN}"


def test_what_only_tunes_stays_as_the_user_has_it(ask, recorder, home):
    user_settings(home, {"env": {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "1234"}})
    _, _, err = ask("-p", "hello", API_TIMEOUT_MS="99000")
    assert recorder.messages[0].body["max_tokens"] == 1234
    assert "CLAUDE_CODE_MAX_OUTPUT_TOKENS is left as you have set it." in err
    assert "API_TIMEOUT_MS is left as you have set it." in err
    assert "overrides" not in err


def test_the_users_settings_argument_keeps_its_other_wishes(ask, recorder, work):
    (work / "mine.json").write_text(json.dumps({"env": {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "777"}}))
    code, _, err = ask("-p", "hello", "--settings", "mine.json")
    assert code == 0, err
    assert recorder.messages[0].body["max_tokens"] == 777


def test_a_settings_argument_that_is_wrong_is_claudes_to_complain_about(ask, recorder):
    code, _, err = ask("-p", "hello", "--settings", "no-such-file.json")
    assert code == 1
    assert "Settings file not found" in err
    assert not recorder.messages


@pytest.mark.parametrize("args", [["--version"], ["mcp", "list"]])
def test_what_asks_no_model_is_left_to_claude(args, ask, recorder):
    code, out, err = ask(*args)
    assert (code, recorder.messages) == (0, []), err
    assert out


def test_on_a_terminal_it_is_interactive_and_without_auto_mode(recorder, environment, home, work):
    """Auto mode would send `safeguards` with every request and classify each tool call with 35,000 tokens."""
    (home / ".claude").mkdir(parents=True)
    trusted = {
        "hasCompletedOnboarding": True,
        "theme": "dark",
        "projects": {str(work): {"hasTrustDialogAccepted": True}},
    }
    (home / ".claude" / ".claude.json").write_text(json.dumps(trusted))
    with Terminal([*LAUNCH, recorder.url, TOKEN, MODEL], environment, work) as terminal:
        terminal.wait_for("? for shortcuts")
        terminal.type("hello")
        terminal.wait_for("hello")
        terminal.type("\r")
        assert "safeguards" not in recorder.wait_for_message().body
        terminal.wait_for(recorder.answer)
        terminal.press_until("\x03", "Press Ctrl-C again")
        terminal.type("\x03")
        assert terminal.wait_exit() == 0
