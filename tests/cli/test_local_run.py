"""The commands against a real fleet on the rehearsal backend: what goes where, questions, endless output, signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from tests.support.ollama_shelf import ollama_with
from tests.support.stack import LLMHOST, Stack
from tests.support.system import free_port, wait_until
from tests.support.terminal import Terminal


@pytest.fixture(scope="module")
def stack():
    stack = Stack(LLMHOST_BACKEND="rehearsal")
    try:
        stack.up()
        yield stack
    finally:
        stack.remove()


@pytest.fixture
def empty():
    """An installation where nothing is up."""
    stack = Stack(LLMHOST_BACKEND="rehearsal")
    yield stack
    stack.remove()


def test_up_tells_its_progress_on_standard_error_and_what_to_type_next_on_standard_output(empty):
    done = empty.llmhost("up", "--provider", "local", "--yes").expect()
    assert "Next:  llmhost claude" in done.stdout
    assert "No model is behind this" in done.stdout
    assert "$0.00/h" in done.stderr
    assert any(line.startswith("• ") for line in done.stderr.splitlines())
    again = empty.llmhost("up", "--quiet").expect()  # nothing to do, so nothing to confirm
    assert not again.stderr.startswith("•")
    assert "Plan" not in again.stderr
    down = empty.llmhost("down").expect()
    assert "n1 is gone" in down.stdout


def test_quiet_leaves_of_up_only_where_the_gateway_is(empty):
    done = empty.llmhost("up", "--provider", "local", "--yes", "--quiet").expect()
    assert (done.stdout, done.stderr) == (f"{empty.url}\n", "")
    empty.llmhost("down").expect()


@pytest.mark.parametrize(("answer", "exit_code"), [("n", 2), ("", 2), ("y", 0)])
def test_up_asks_before_it_does_anything(answer, exit_code, empty):
    with Terminal([LLMHOST, "up", "--provider", "local"], empty.env, empty.work) as terminal:
        terminal.wait_for("Do it? [y/N]")
        assert not empty.state_dir.exists()
        terminal.type(f"{answer}\r")
        assert terminal.wait_exit(60) == exit_code
    nodes = empty.status()["fleet"]["nodes"]
    assert bool(nodes) == (answer == "y")


def test_without_a_terminal_a_question_is_refused(empty):
    done = empty.llmhost("up", "--provider", "local").expect(2)
    assert "--yes" in done.stderr
    assert not empty.state_dir.exists()


def test_status_for_people_says_that_no_model_answers(stack):
    done = stack.llmhost("status").expect()
    assert done.stderr == ""
    assert done.stdout.startswith("fleet default · 1 node · $0.00/h")
    assert all(word in done.stdout for word in ("No model is behind this", "Thinkers", "Rememberer", stack.url))
    assert "\x1b" not in done.stdout


def test_colour_is_only_for_a_terminal_and_can_be_refused(stack):
    coloured = {**stack.env, "TERM": "xterm-256color"}
    for argv, env, wanted in (
        (["status"], coloured, True),
        (["status", "--no-color"], coloured, False),
        (["status"], {**coloured, "NO_COLOR": "1"}, False),
    ):
        with Terminal([LLMHOST, *argv], env, stack.work) as terminal:
            assert terminal.wait_exit() == 0
            assert (b"\x1b[32m" in terminal._bytes) == wanted


def test_watch_draws_again_until_it_is_interrupted(stack):
    with Terminal([LLMHOST, "status", "--watch"], stack.env, stack.work) as terminal:
        terminal.wait_for("Rememberer")
        stack.llmhost("cache", "clear").expect()
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait_exit() == 130
        assert "Traceback" not in terminal.text


def test_followed_logs_are_an_object_a_line_and_end_silently(stack):
    argv = stack.argv("logs", "--follow", "--json", "--lines", "1")
    process = subprocess.Popen(
        argv, env=stack.env, cwd=stack.work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        first = json.loads(process.stdout.readline())
        assert set(first) == {"source", "node", "time", "text"}
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert (process.returncode, err) == (130, "")
    assert all(json.loads(line) for line in out.splitlines())


def test_logs_of_one_node_and_of_one_source(stack):
    lines = stack.json("logs", "n1", "--lines", "2")["lines"]
    assert len(lines) == 2
    assert {(line["source"], line["node"]) for line in lines} == {("proxy", "n1")}
    assert {line["source"] for line in stack.json("logs", "--source", "gateway")["lines"]} == {"gateway"}
    assert " gateway " in stack.llmhost("logs", "--source", "gateway").expect().stdout


def test_the_environment_can_be_evaluated_by_a_shell(stack):
    show = f'eval "$({LLMHOST} env)"; {sys.executable} -c "import json, os; print(json.dumps(dict(os.environ)))"'
    theirs = {"ANTHROPIC_API_KEY": "sk-theirs", "API_TIMEOUT_MS": "1"}
    done = subprocess.run(
        ["/bin/sh", "-c", show], env={**stack.env, **theirs}, cwd=stack.work, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    document = stack.json("env")
    assert found["ANTHROPIC_BASE_URL"] == stack.url == document["environment"]["ANTHROPIC_BASE_URL"]
    assert found["ANTHROPIC_AUTH_TOKEN"] == stack.token
    assert "ANTHROPIC_API_KEY" not in found
    assert "ANTHROPIC_API_KEY" in document["unset"]
    assert found["API_TIMEOUT_MS"] == "1"


def test_settings_that_beat_exported_variables_are_warned_of(stack):
    folder = stack.home / ".claude"
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "settings.json"
    settings.write_text(json.dumps({"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}}))
    try:
        done = stack.llmhost("env").expect()
    finally:
        settings.unlink()
    assert "your Claude Code settings set ANTHROPIC_BASE_URL" in done.stderr


def test_cache_stats_are_those_of_status_and_clearing_empties_it(stack):
    with stack.client() as client:
        question = {"max_tokens": 50, "messages": [{"role": "user", "content": "for the cache"}]}
        assert client.post("/v1/messages", json=question).status_code == 200
    entries = wait_until(lambda: stack.json("cache", "stats")["cache"]["entries"], "an entry in the cache")
    assert entries == stack.status()["cache"]["entries"]
    assert stack.json("cache", "clear", "--scope", "exact") == {"scope": "exact", "deleted": entries}
    assert stack.json("cache", "stats")["cache"]["entries"] == 0
    assert "Rememberer" in stack.llmhost("cache", "stats").expect().stdout


def test_doctor_sees_every_running_part(stack):
    checks = {check["name"]: check for check in stack.json("doctor")["checks"]}
    assert checks["port"]["detail"] == f"the gateway listens on {stack.url}"
    assert [checks[name]["state"] for name in ("supervisor", "gateway", "cache")] == ["ok", "ok", "ok"]
    assert checks["node n1"]["state"] == "warn"
    assert "no model" in checks["node n1"]["detail"]


def test_a_signal_to_llmhost_claude_is_one_to_claude(stack):
    argv = stack.argv("claude", "-p", "@rehearse stall 30")
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(argv, env=stack.env, cwd=stack.work, stdin=nothing, stdout=nothing, stderr=nothing)
    try:
        wait_until(lambda: stack.status()["requests"]["in_flight"], "the request", 30)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
    finally:
        process.kill()
    wait_until(lambda: stack.status()["requests"]["in_flight"] == 0, "the end of the request behind it")


def test_proxy_serves_in_the_foreground_until_it_is_interrupted(empty):
    port = free_port()
    argv = empty.argv("proxy", "--json", "--backend", "rehearsal", "--port", str(port))
    process = subprocess.Popen(
        argv, env=empty.env, cwd=empty.work, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert json.loads(process.stderr.readline())["message"] == "listening"
        busy = empty.llmhost("--json", "proxy", "--backend", "rehearsal", "--port", str(port)).expect(1).json
        assert busy["errors"][0]["code"] == "port_in_use"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert json.loads(out)["errors"][0]["code"] == "interrupted"
    assert all(json.loads(line) for line in err.splitlines())


@pytest.mark.parametrize("args", [("--model", "b:1"), ("--backend", "ollama", "--model", "b:1")])
def test_proxy_serves_no_other_model_than_the_one_named(args, empty):
    with ollama_with("qwen3-coder:30b") as address:
        done = empty.llmhost(
            "--json", "proxy", "--port", str(free_port()), *args, OLLAMA_HOST=address, LLMHOST_BACKEND=""
        ).expect(5)
    (error,) = done.json["errors"]
    assert (error["code"], error["hint"]) == ("model_missing", "ollama pull b:1")
