"""The real Claude Code on the real Ollama: a scripted model calls tools, and Ollama's log tells how much of each prompt it read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.conftest import StackFactory
from tests.support.claude import Run, result_text
from tests.support.ollama_server import OllamaServer, scripted_model
from tests.support.stack import Stack

MODEL = "scripted"
CONTEXT = (
    "65536"  # below about 40,000 the script does not fit: its vocabulary is small, so 17,000 tokens are gone at once
)
NEW_TOKENS_FACTOR = 1.05


def call(name: str, **arguments: object) -> str:
    """A tool call as qwen3-coder writes it, one chunk of a script."""
    parameters = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
    return f"<tool_call>\n<function={name}>\n{parameters}</function>\n</tool_call>"


def step(number: int, following: str, tool_call: str) -> list[str]:
    """A script that says the trigger of the next one, which comes back in the history, and calls a tool.

    The filler keeps the triggers a hundred tokens apart: nearer ones are hard to tell for a model whose keys are kept in 16 bits.
    """
    return [
        f"Step {number} ",
        following,
        f" follows {number}. ",
        *(f"{number}-{word} " for word in range(FILLER)),
        tool_call,
    ]


FILLER = 60
SCRIPTS = {
    "default": ["hello ", "from the ", "scripted model"],
    "[[one]]": step(1, "[[two]]", call("Bash", command="echo from-bash; seq 1 40")),
    "[[two]]": step(2, "[[three]]", call("Read", file_path="notes.txt")),
    "[[three]]": step(3, "[[four]]", call("ToolSearch", query="select:CronList", max_results=5)),
    "[[four]]": step(4, "[[five]]", call("CronList")),
    "[[five]]": step(5, "[[six]]", call("Bash", command="echo again; seq 1 30")),
    "[[six]]": ["all ", "done"],
}
PROMPT = "[[one]] is what to do" + ", please" * 2 * FILLER


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


@pytest.mark.timeout(300)  # the first prompt has 17,000 tokens, for a CPU
def test_a_session_with_tools_reads_only_what_is_new_and_is_replayed(ollama_stack: Stack, ollama: OllamaServer) -> None:
    (node,) = ollama_stack.status()["fleet"]["nodes"]
    assert (node["backend"], node["model"]) == ("ollama", f"{MODEL}:latest")
    folder = ollama_stack.folder("session")
    (folder / "notes.txt").write_text("a note\n")

    def session() -> Run:
        tools = ("--allowedTools", "Bash", "Read", "ToolSearch", "CronList")
        return ollama_stack.stream(PROMPT, *tools, cwd=folder, timeout_s=200)

    mark = ollama.mark()
    run = session()
    assert [block["name"] for block in run.tool_uses] == ["Bash", "Read", "ToolSearch", "CronList", "Bash"]
    assert result_text(run.tool_results[0]).startswith("from-bash\n1\n")
    assert "a note" in result_text(run.tool_results[1])
    assert run.result["result"] == "all done"

    first, *later = ollama.slots(mark)
    assert len(later) == 5
    new = sum(slot.prompt - slot.held for slot in later)
    assert sum(slot.remaining for slot in later) <= NEW_TOKENS_FACTOR * new, [first, *later]
    assert ollama.loads(mark) == 0, "every request has the window that is loaded"
    assert run.result["usage"]["cache_read_input_tokens"] > 4 * first.prompt

    mark = ollama.mark()
    again = session()
    assert again.result["result"] == "all done"
    assert ollama.slots(mark) == [], "the second time Ollama is not asked"
    assert ollama_stack.status()["cache"]["exact"]["hits"] == 6
