"""`llmhost models list|pull|rm`, on this machine and on others, and the models then asked for by name."""

from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from tests.support.small_ollama import LAYERS, Model, SmallOllama, install
from tests.support.sshd import Sshd
from tests.support.stack import Stack

PETABYTE = 10**15


def ask(stack: Stack, model: str | None) -> tuple[int, str]:
    """Status, and the answer or the error."""
    body = {"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
    with stack.client() as client:
        answer = client.post("/v1/messages", json=body, headers={"cache-control": "no-store"})
    data = answer.json()
    return answer.status_code, data["content"][0]["text"] if answer.status_code == 200 else data["error"]["message"]


def error_of(stack: Stack, *args: str, exit_code: int) -> dict[str, str]:
    return stack.llmhost("--json", *args).expect(exit_code).json["errors"][0]


@pytest.fixture(scope="module")
def ollama():
    models = [
        Model("main:8b", says="from main"),
        Model("embed:1b", capabilities=["embedding"], size=300_000_000),
        Model("second:8b", says="from second", max_context=32_768),
    ]
    pulls = {"new:1b": Model("new:1b", says="from new", parameter_size="1.5B", size=1_000_000_000)}
    with SmallOllama(models, pulls) as server:
        yield server


@pytest.fixture(scope="module")
def stack(ollama):
    stack = Stack(OLLAMA_HOST=ollama.url.removeprefix("http://"), LLMHOST_MODEL="main:8b")
    (stack.home / ".ollama" / "models").mkdir(parents=True)
    try:
        stack.up()
        yield stack
    finally:
        stack.remove()


def names(stack: Stack) -> list[str]:
    return [model["name"] for model in stack.json("models", "list")["models"]]


def test_what_is_there_with_size_state_and_window(stack):
    shown = stack.json("models", "list")
    main, embed, second = shown["models"]
    assert main == {
        "node": "n1",
        "name": "main:8b",
        "size": 5_000_000_000,
        "parameters": 8.0,
        "chat": True,
        "tools": True,
        "max_context": 262_144,
        "served": True,
        "loaded": True,
        "context": 65_536,
        "vram": None,
    }
    assert (embed["name"], embed["chat"], embed["served"], embed["loaded"]) == ("embed:1b", False, False, False)
    assert (second["name"], second["chat"], second["max_context"]) == ("second:8b", True, 32_768)
    (node,) = shown["nodes"]
    assert node["disk_free"] > 0
    text = " ".join(stack.llmhost("models", "list", "n1").expect().stdout.split())
    assert "main:8b 5.0 GB 8.0 B serves, loaded 65,536" in text
    assert "embed:1b 300.0 MB 8.0 B cannot chat (up to 262,144)" in text
    assert "n1: " in text


def test_a_model_is_pulled_asked_for_by_name_and_deleted(stack, ollama):
    assert ask(stack, "new:1b")[0] == 404
    assert "llmhost models pull new:1b" in ask(stack, "new:1b")[1]
    pulled = stack.llmhost("models", "pull", "new:1b").expect()
    assert "• pulling new:1b on n1" in pulled.stderr
    assert "MiB" in pulled.stderr
    assert "n1: new:1b is there now" in pulled.stdout
    assert "llmhost claude --model new:1b" in pulled.stdout
    assert ask(stack, "new:1b") == (200, "from new")
    assert ask(stack, "claude-opus-9") == (200, "from main")
    assert stack.json("models", "pull", "new:1b") == {"model": "new:1b", "pulled": [{"node": "n1", "fetched": False}]}
    assert stack.json("models", "rm", "new:1b", "n1") == {
        "model": "new:1b",
        "removed": [{"node": "n1", "removed": True, "freed": 1_000_000_000}],
    }
    assert "new:1b" not in names(stack)
    assert ask(stack, "new:1b")[0] == 404, "nobody has to see first that it is gone"


@pytest.mark.parametrize("name", ["main:8b", "MAIN:8b"])
def test_the_model_that_is_served_is_not_deleted(stack, name):
    error = error_of(stack, "models", "rm", name, exit_code=1)
    assert (error["code"], error["hint"]) == ("model_in_use", "Serve another one first: llmhost up --model OTHER")
    assert "main:8b" in names(stack)


@pytest.mark.parametrize(
    ("args", "code", "exit_code"),
    [
        (("rm", "nowhere:1b"), "model_unknown", 1),
        (("pull", "nowhere:1b"), "pull_failed", 1),
        (("pull", "new:1b", "n7"), "no_such_node", 2),
        (("list", "n7"), "no_such_node", 2),
        (("pull",), "usage", 2),
    ],
)
def test_what_cannot_be_done_is_said(stack, args, code, exit_code):
    assert error_of(stack, "models", *args, exit_code=exit_code)["code"] == code


def test_what_the_disk_cannot_hold_is_refused_before_it_is_fetched(stack, ollama):
    ollama.pulls["huge:1b"] = Model("huge:1b")
    ollama.layers = (("sha256:cccc", PETABYTE),)
    try:
        error = error_of(stack, "models", "pull", "huge:1b", exit_code=3)
    finally:
        ollama.layers = LAYERS
        ollama.models.pop("huge:1b", None)  # this one does not notice that nobody listens any more
    assert error["code"] == "model_too_big"
    assert "1000000.0 GB are needed" in error["message"]


def test_what_the_card_cannot_hold_is_not_even_asked_for(stack, ollama):
    tools = stack.root / "tools"
    tools.mkdir()
    card = tools / "nvidia-smi"
    card.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 4090, 10, 1000, 24564'\n")
    card.chmod(0o755)
    asked = ollama.asked.count("/api/pull")
    path = f"{tools}:{stack.env['PATH']}"
    refused = stack.llmhost("--json", "models", "pull", "qwen3-coder:480b", PATH=path).expect(3).json["errors"][0]
    assert refused["code"] == "model_too_big"
    assert "24,564" in refused["message"]
    assert ollama.asked.count("/api/pull") == asked


@pytest.mark.parametrize(
    ("named", "told", "window"), [("second:8b", "second:8b", "32768"), ("opus", "main:8b", "65536")]
)
def test_a_whole_session_of_claude_gets_the_model_that_is_named(stack, named, told, window):
    """Its side traffic too: else two models would take turns."""
    program = stack.root / "claude"
    program.write_text(
        '#!/bin/sh\necho "$ANTHROPIC_MODEL $ANTHROPIC_DEFAULT_HAIKU_MODEL $CLAUDE_CODE_MAX_CONTEXT_TOKENS"\n'
    )
    program.chmod(0o755)
    shown = stack.claude("--model", named, LLMHOST_CLAUDE_BIN=str(program)).expect().stdout
    assert shown.split() == [told, told, window]


def test_another_main_model_in_place(stack):
    """The one that was served may go then."""
    stack.up("--model", "second:8b")
    assert ask(stack, None) == (200, "from second")
    assert ask(stack, "main:8b") == (200, "from main")
    assert error_of(stack, "models", "rm", "second:8b", exit_code=1)["code"] == "model_in_use"
    stack.up("--model", "main:8b")
    assert stack.json("models", "rm", "second:8b")["removed"][0]["removed"] is True


def test_a_rehearsing_node_has_none_and_without_a_fleet_there_are_no_nodes():
    stack = Stack(LLMHOST_BACKEND="rehearsal")
    try:
        assert error_of(stack, "models", "list", exit_code=7)["code"] == "no_fleet"
        stack.up()
        assert stack.json("models", "list")["models"] == []
        assert "n1 rehearses" in stack.llmhost("models", "list").expect().stdout
        assert error_of(stack, "models", "pull", "new:1b", exit_code=1)["code"] == "no_ollama"
    finally:
        stack.remove()


@pytest.fixture(scope="module")
def fleet():
    """Two machines over SSH, each with an Ollama of its own."""
    stack = Stack(
        LLMHOST_BACKEND="ollama", LLMHOST_TUNNEL_LOGIN_EVERY="0.1", XDG_CACHE_HOME=os.environ["XDG_CACHE_HOME"]
    )
    with ExitStack() as ending:
        ending.callback(stack.remove)
        machines = [ending.enter_context(machine_with_ollama(stack, f"m{number}")) for number in (1, 2)]
        stack.up_ssh(*machines, more=("--model", "main:8b"))
        yield stack
        stack.llmhost("down", "--yes", "--force")


def machine_with_ollama(stack: Stack, name: str) -> Sshd:
    tools = stack.root / f"tools-{name}"
    new = Model("new:1b", says="from new", size=1_000_000_000)
    program, environ = install(tools, [Model("main:8b", says="from main")], [new])
    # the node has a place of its own for models, where this one has none
    program.write_text(
        program.read_text().replace("PYTHONPATH=", f"OLLAMA_MODELS={environ['OLLAMA_MODELS']} PYTHONPATH=")
    )
    return Sshd(stack.root / name, environment={"PATH": f"{tools}:{os.environ['PATH']}"})


def test_on_several_machines_at_once(fleet):
    pulled = fleet.llmhost("models", "pull", "new:1b").expect()
    assert "• pulling new:1b on n1, n2" in pulled.stderr
    assert "n1: new:1b is there now" in pulled.stdout
    assert "n2: new:1b is there now" in pulled.stdout
    assert ask(fleet, "new:1b") == (200, "from new")
    rows = [(one["node"], one["name"], one["served"]) for one in fleet.json("models", "list")["models"]]
    assert rows == [("n1", "main:8b", True), ("n1", "new:1b", False), ("n2", "main:8b", True), ("n2", "new:1b", False)]
    assert error_of(fleet, "models", "rm", "main:8b", exit_code=1)["code"] == "model_in_use"
    assert fleet.json("models", "rm", "new:1b", "n2")["removed"][0]["removed"] is True
    rows = [(one["node"], one["name"]) for one in fleet.json("models", "list")["models"]]
    assert rows == [("n1", "main:8b"), ("n1", "new:1b"), ("n2", "main:8b")]
    assert ask(fleet, "new:1b") == (200, "from new"), "n1 has it"
    found = fleet.json("models", "rm", "new:1b")["removed"]
    assert [one["removed"] for one in found] == [True, False]


def test_each_machine_tells_its_own_failure(fleet):
    error = error_of(fleet, "models", "pull", "nowhere:1b", exit_code=1)
    assert error["code"] == "model_unknown"
