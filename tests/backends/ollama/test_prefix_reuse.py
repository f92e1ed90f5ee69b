"""What the engine reads of each prompt, by its own log: the same request gives the same prompt, a conversation costs only what is new."""

from __future__ import annotations

import json
from typing import Any

from llmhost.backends.ollama.backend import OllamaBackend
from llmhost.backends.ollama.codec import LoadedModel
from llmhost.backends.ollama.codec_chat import ChatCodec
from llmhost.messages.prompt_build import build_prompt
from tests.backends.ollama.conftest import CONTEXT
from tests.support import sse
from tests.support.ollama_calls import answer, prompt_tokens
from tests.support.ollama_server import OllamaServer

MODEL = LoadedModel("scripted", "digest", CONTEXT, CONTEXT, renderer="qwen3-coder")
NEW_TOKENS_FACTOR = 1.05

NESTED = {
    "type": "object",
    "description": "How to watch.",
    "properties": {
        "counts": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    },
    "required": ["counts"],
    "additionalProperties": False,
}
TOOLS: dict[str, dict[str, Any]] = {
    "Bash": {
        "description": "Runs a command in a shell and returns what it printed.",
        "input_schema": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": {
                "command": {"type": "string", "description": "The command"},
                "timeout": {"type": "number", "maximum": 600000},
                "ws": NESTED,
                "mode": {"anyOf": [{"type": "string", "enum": ["a", "b"]}, {"type": "null"}], "default": "a"},
                "names": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
            },
            "required": ["command"],
            "additionalProperties": False,
        },
    },
    "Read": {
        "description": "Reads a file.",
        "input_schema": {"type": "object", "properties": {"file_path": {"type": "string"}}, "required": ["file_path"]},
    },
    "ToolSearch": {
        "description": "Finds tools; each is shown as a <function> line inside a <functions> block.",
        "input_schema": {
            "type": "object",
            "properties": {"query": {"type": "string"}, "max_results": {"type": "integer"}},
        },
    },
}
LATE_TOOLS: dict[str, dict[str, Any]] = {
    "CronList": {"description": "Lists jobs.", "input_schema": {"type": "object", "properties": {}}},
    "WebFetch": {
        "description": "Gets a page.",
        "input_schema": {
            "type": "object",
            "properties": {"url": {"type": "string"}, "retries": {"type": "integer"}, "deep": {"type": "boolean"}},
        },
    },
}


def test_twenty_renders_of_a_request_are_one_prompt(ollama: OllamaServer) -> None:
    conversation = Conversation("hi")
    body = ChatCodec().encode(build_prompt(conversation.body()), MODEL, stream=False).body
    request = {**json.loads(body), "_debug_render_only": True}
    renders = {ollama.ask("/api/chat", request)["_debug_info"]["rendered_template"] for _ in range(20)}
    (prompt,) = renders
    for detail in (
        '"maximum":600000',
        '"minLength":1',
        '"default":"a"',
        '"minItems":1',
        '"minimum":1',
        "You are a test.",
    ):
        assert detail in prompt
    assert "billing" not in prompt


class Conversation:
    """A client that goes about it as Claude Code does: marks move, spellings change, tools turn up in the middle of the list."""

    def __init__(self, words: str) -> None:
        self.turn = 0
        self.loaded: set[str] = set()
        self.messages: list[dict[str, Any]] = [
            {"role": "user", "content": [{"type": "text", "text": words + " please" * 120}]},
            {"role": "system", "content": "# Environment\ncwd: /work\ntools to be found: CronList, WebFetch"},
        ]

    def body(self) -> dict[str, Any]:
        self.turn += 1
        environment = self.messages[1]["content"]
        messages = [dict(message) for message in self.messages]
        messages[1]["content"] = [{"type": "text", "text": environment}] if self.turn % 2 else environment
        if isinstance(messages[-1]["content"], list):
            last = {**messages[-1]["content"][-1], "cache_control": {"type": "ephemeral"}}
            messages[-1]["content"] = [*messages[-1]["content"][:-1], last]
        return {
            "max_tokens": 500,
            "stream": True,
            "thinking": {"type": "adaptive", "display": "omitted"},
            "metadata": {"user_id": f"turn {self.turn}"},
            "system": [
                {"type": "text", "text": f"x-anthropic-billing-header: cch={self.turn}"},
                {"type": "text", "text": "You are a test.", "cache_control": {"type": "ephemeral"}},
            ],
            "tools": self.tools(),
            "messages": messages,
        }

    def tools(self) -> list[dict[str, Any]]:
        known = TOOLS | {name: {**LATE_TOOLS[name], "defer_loading": True} for name in self.loaded}
        return [{"name": name, **known[name]} for name in sorted(known)]

    def add(self, message: dict[str, Any]) -> bool:
        """Take an answer, and run its tools; False when it called none."""
        self.messages.append({"role": "assistant", "content": message["content"]})
        results = [self.run(block) for block in message["content"] if block["type"] == "tool_use"]
        if results:
            self.messages.append({"role": "user", "content": results})
        return bool(results)

    def run(self, block: dict[str, Any]) -> dict[str, Any]:
        if block["name"] == "ToolSearch":
            self.loaded |= {"CronList", "WebFetch"}
            content: Any = [{"type": "tool_reference", "tool_name": name} for name in ("WebFetch", "CronList")]
        else:
            content = " ".join(f"{self.turn}:{number}" for number in range(50))
        return {"content": content, "tool_use_id": block["id"], "type": "tool_result"}


async def test_a_conversation_with_tools_reads_only_what_is_new(backend: OllamaBackend, ollama: OllamaServer) -> None:
    await answer(backend, {"max_tokens": 5, "messages": [{"role": "user", "content": "something else before"}]})
    mark = ollama.mark()
    conversation = Conversation("[[s1]]")
    answers = []
    while not answers or conversation.add(answers[-1]):
        answers.append(await answer(backend, conversation.body()))

    assert [name for message in answers for name, _ in sse.tools_of(message)] == [
        "Bash",
        "Read",
        "ToolSearch",
        "WebFetch",
        "Bash",
    ]
    assert sse.tools_of(answers[3]) == [("WebFetch", {"url": "http://127.0.0.1/", "retries": 3, "deep": True})]
    assert sse.text_of(answers[-1]) == "All six steps are done."

    first, *later = ollama.slots(mark)
    assert len(later) == 5
    new = later[-1].prompt - first.prompt
    assert sum(slot.remaining for slot in later) <= NEW_TOKENS_FACTOR * new, later
    assert [prompt_tokens(message) for message in answers] == [slot.prompt for slot in (first, *later)]
    for message, slot in zip(answers[1:], later, strict=True):
        assert abs(message["usage"]["cache_read_input_tokens"] - slot.used) <= 0.05 * slot.prompt
    assert backend.reuse.prompt_tokens >= sum(slot.prompt for slot in later)
    assert backend.reuse.reused_tokens >= 0.9 * sum(slot.used for slot in later)


async def test_no_request_loads_the_model_again(backend: OllamaBackend, ollama: OllamaServer) -> None:
    await answer(backend, {"messages": [{"role": "user", "content": "hi"}]})
    mark = ollama.mark()
    requests: list[dict[str, Any]] = [
        {"max_tokens": 0},
        {"max_tokens": 5, "temperature": 0.5, "top_p": 0.9, "top_k": 40},
        {"max_tokens": 500, "stop_sequences": ["model"]},
        {"max_tokens": 500, "tools": [{"name": "Bash", **TOOLS["Bash"]}]},
        {"stream": True, "thinking": {"type": "adaptive"}},
    ]
    for request in requests:
        await answer(backend, {"messages": [{"role": "user", "content": "hi"}], **request})
    assert ollama.loads(mark) == 0


async def test_side_traffic_is_counted_honestly(backend: OllamaBackend, ollama: OllamaServer) -> None:
    """One slot: another conversation in between costs the first one its place."""
    one = {"max_tokens": 20, "messages": [{"role": "user", "content": "one " * 100}]}
    other = {"max_tokens": 20, "messages": [{"role": "user", "content": "quite another matter " * 50}]}
    await answer(backend, one)
    await answer(backend, other)
    mark = ollama.mark()
    message = await answer(backend, one)
    (slot,) = ollama.slots(mark)
    assert abs(message["usage"]["cache_read_input_tokens"] - slot.used) <= 5
