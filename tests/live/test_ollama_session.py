"""The real Claude Code on the real Ollama: a scripted model calls tools, and Ollama's log tells how much of each prompt it read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.conftest import StackFactory
from tests.support.claude import claude_binary, result_text
from tests.support.ollama_server import OllamaServer, scripted_model
from tests.support.stack import Stack

MODEL = "scripted"
CONTEXT = "32768"
NEW_TOKENS_FACTOR = 1.05


def call(name: str, **arguments: object) -> str:
    """A tool call as qwen3-coder writes it, one chunk of a script."""
    parameters = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
    return f"<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>"


# Each script says the trigger of the next one, which comes back in the history of the next turn.
SCRIPTS = {
    "default": ["hello ", "from the ", "scripted model"],
    "[[start]]": ["First ", "[[two]]", " now. ", call("Bash", command="echo from-bash; seq 1 40")],
    "[[two]]": ["Second ", "[[three]]", " then. ", call("Read", file_path="notes.txt")],
    "[[three]]": ["Third ", "[[four]]", " look. ", call("ToolSearch", query="select:CronList", max_results=5)],
    "[[four]]": ["Fourth ", "[[five]]", " list. ", call("CronList")],
    "[[five]]": ["Fifth ", "[[six]]", " again. ", call("Bash", command="echo again; seq 1 30")],
    "[[six]]": ["all ", "done"],
}


@pytest.fixture(scope="module")
def ollama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OllamaServer]:
    server = OllamaServer(tmp_path_factory.mktemp("ollama"), OLLAMA_CONTEXT_LENGTH=CONTEXT).start()
    try:
        server.create(MODEL, scripted_model(SCRIPTS), renderer="qwen3-coder", parser="qwen3-coder")
        yield server
    finally:
        server.stop()


@pytest.fixture
def ollama_stack(new_stack: StackFactory, ollama: OllamaServer) -> Stack:
    """A fleet that finds this Ollama by OLLAMA_HOST, without being told a backend or a model."""
    stack = new_stack(LLMHOST_BACKEND="", OLLAMA_HOST=ollama.url.removeprefix("http://"), LLMHOST_CONTEXT=CONTEXT)
    stack.up()
    return stack


def test_a_session_with_tools_reads_only_what_is_new(ollama_stack: Stack, ollama: OllamaServer) -> None:
    claude_binary()
    (node,) = ollama_stack.status()["fleet"]["nodes"]
    assert (node["backend"], node["model"]) == ("ollama", f"{MODEL}:latest")
    folder = ollama_stack.folder("session")
    (folder / "notes.txt").write_text("a note\n")
    mark = ollama.mark()
    run = ollama_stack.stream(
        "please [[start]]", "--allowedTools", "Bash", "Read", "ToolSearch", "CronList", cwd=folder
    )

    assert [block["name"] for block in run.tool_uses] == ["Bash", "Read", "ToolSearch", "CronList", "Bash"]
    assert result_text(run.tool_results[0]).startswith("from-bash\n1\n")
    assert "a note" in result_text(run.tool_results[1])
    assert run.result["result"] == "all done"

    first, *later = ollama.slots(mark)
    assert len(later) == 5
    new = sum(after.prompt - before.prompt for before, after in zip([first, *later], later, strict=False))
    read = sum(slot.remaining for slot in later)
    assert read <= NEW_TOKENS_FACTOR * new, json.dumps([slot.__dict__ for slot in [first, *later]])
    assert run.result["usage"]["cache_read_input_tokens"] > 0
    assert ollama.loads(mark) == 0, "the window of every request is the one that is loaded"


def test_the_second_time_ollama_is_not_asked(ollama_stack: Stack, ollama: OllamaServer) -> None:
    folder: Path = ollama_stack.folder("cached")
    first = ollama_stack.claude("-p", "hello", cwd=folder).expect()
    assert first.stdout.strip() == "hello from the scripted model"
    mark = ollama.mark()
    assert ollama_stack.claude("-p", "hello", cwd=folder).expect().stdout == first.stdout
    assert ollama.slots(mark) == []
