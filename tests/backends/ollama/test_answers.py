"""Answers of a real Ollama, as a client of the Messages API sees them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from llmhost.backends.ollama.backend import OllamaBackend
from tests.backends.ollama.conftest import CONTEXT, serving
from tests.support import sse
from tests.support.images import png
from tests.support.ollama_calls import answer, events, failure, prompt_tokens
from tests.support.ollama_server import OllamaServer

TEXT = "Hello from a model whose weights were written by hand."


def schema(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)[:1]}


TOOLS = [
    {"name": "Bash", "description": "Runs a command", "input_schema": schema(command={"type": "string"})},
    {
        "name": "Read",
        "description": "Reads a file",
        "input_schema": schema(file_path={"type": "string"}, limit={"type": "integer"}),
    },
    {"name": "Write", "description": "Writes a file", "input_schema": schema(content={"type": "string"})},
]


def body(words: str, **fields: Any) -> dict[str, Any]:
    return {"max_tokens": 500, "stream": True, "messages": [{"role": "user", "content": words}], **fields}


async def test_text(backend: OllamaBackend) -> None:
    message = await answer(backend, body("hi"))
    assert sse.text_of(message) == TEXT
    assert (message["stop_reason"], message["stop_sequence"]) == ("end_turn", None)
    assert prompt_tokens(message) == 11
    assert message["usage"]["output_tokens"] == 7


async def test_not_streamed_it_is_the_same(backend: OllamaBackend) -> None:
    streamed, whole = await answer(backend, body("hi")), await answer(backend, body("hi", stream=False))
    assert streamed["content"] == whole["content"]
    assert prompt_tokens(streamed) == prompt_tokens(whole)
    assert streamed["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


async def test_a_call_comes_with_typed_input(backend: OllamaBackend) -> None:
    message = await answer(backend, body("[[two]]", tools=TOOLS))
    assert [block["type"] for block in message["content"]] == ["text", "tool_use", "text", "tool_use", "text"]
    assert sse.tools_of(message) == [("Bash", {"command": "ls"}), ("Read", {"file_path": "/x", "limit": 5})]
    assert message["stop_reason"] == "tool_use"


async def test_a_call_without_any_text_before_it(backend: OllamaBackend) -> None:
    message = await answer(backend, body("[[bare]]", tools=TOOLS))
    assert [block["type"] for block in message["content"]] == ["tool_use"]


async def test_a_long_input_comes_in_small_pieces(backend: OllamaBackend) -> None:
    found = await events(backend, body("[[long]]", tools=TOOLS))
    pieces = [
        data["delta"]["partial_json"] for _, data in found if data.get("delta", {}).get("type") == "input_json_delta"
    ]
    assert len(pieces) >= 4
    assert max(map(len, pieces)) <= 1024
    assert json.loads("".join(pieces)) == {"content": "0123456789abcdef\n" * 200}


async def test_a_null_that_the_schema_does_not_allow(backend: OllamaBackend) -> None:
    message = await answer(backend, body("[[null]]", tools=TOOLS))
    assert sse.tools_of(message) == [("Read", {"file_path": "null"})]


async def test_a_call_that_ollama_cannot_parse_is_a_failure(backend: OllamaBackend) -> None:
    error, sent = await failure(backend, body("[[broken]]", tools=TOOLS))
    assert error.status == 502
    assert b"Broken" in sent
    assert b"message_stop" not in sent


async def test_one_call_only_where_parallel_ones_are_off(backend: OllamaBackend) -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    message = await answer(backend, body("[[two]]", tools=TOOLS, tool_choice=choice))
    assert sse.tools_of(message) == [("Bash", {"command": "ls"})]
    assert message["stop_reason"] == "tool_use"
    whole = await answer(backend, body("[[two]]", tools=TOOLS))
    assert prompt_tokens(message) == prompt_tokens(whole)


async def test_a_call_where_none_is_allowed_is_text(backend: OllamaBackend) -> None:
    message = await answer(backend, body("[[two]]", tools=TOOLS, tool_choice={"type": "none"}))
    assert sse.tools_of(message) == []
    assert "<function=Bash>\n<parameter=command>\nls\n</parameter>" in sse.text_of(message)
    assert message["stop_reason"] == "end_turn"


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "Bash"}])
async def test_a_demanded_call_is_asked_for_at_the_prompts_end(
    backend: OllamaBackend, ollama: OllamaServer, choice: dict[str, Any]
) -> None:
    free = prompt_tokens(await answer(backend, body("hi", tools=TOOLS)))
    mark = ollama.mark()
    await answer(backend, body("hi", tools=TOOLS, tool_choice=choice))
    (load,) = ollama.slots(mark)
    assert load.prompt > free
    assert load.used >= free - 8, "everything before the demand is still in the cache"


@pytest.mark.parametrize("stream", [True, False])
async def test_a_stop_sequence_that_spans_two_pieces(backend: OllamaBackend, stream: bool) -> None:
    message = await answer(backend, body("[[stop]]", stop_sequences=["zzz", "</block>"], stream=stream))
    assert sse.text_of(message) == "one two"
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "</block>")
    assert prompt_tokens(message) == prompt_tokens(await answer(backend, body("[[stop]]")))


async def test_what_only_begins_like_a_stop_sequence_is_shown(backend: OllamaBackend) -> None:
    message = await answer(backend, body("[[stop]]", stop_sequences=["four!", " fourteen"]))
    assert sse.text_of(message) == "one two</block> three four"
    assert message["stop_reason"] == "end_turn"


async def test_max_tokens(backend: OllamaBackend) -> None:
    message = await answer(backend, body("[[loop]]", max_tokens=20))
    assert message["stop_reason"] == "max_tokens"
    assert message["usage"]["output_tokens"] == 20


async def test_the_windows_end(ollama: OllamaServer) -> None:
    async with serving(ollama.url, context=1024) as backend:
        message = await answer(backend, body("[[loop]]" + " word" * 950, max_tokens=10_000))
    assert message["stop_reason"] == "model_context_window_exceeded"
    assert prompt_tokens(message) + message["usage"]["output_tokens"] >= 1023


async def test_prewarming_reads_the_prompt_and_says_nothing(backend: OllamaBackend, ollama: OllamaServer) -> None:
    await answer(backend, body("something else"))
    mark = ollama.mark()
    message = await answer(backend, body("a prompt to be warmed", max_tokens=0))
    assert message["content"] == []
    assert message["usage"]["output_tokens"] == 0
    await answer(backend, body("a prompt to be warmed"))
    warmed, used = ollama.slots(mark)
    assert warmed.remaining > 1
    assert used.remaining == 1


async def test_a_prompt_beyond_the_window(backend: OllamaBackend) -> None:
    for words in (5_000, 40_000):  # one that Ollama refuses, and one that needs no asking
        error, sent = await failure(backend, body("word " * words))
        assert (error.status, error.type, sent) == (400, "invalid_request_error", b"")
        found = error.message.removeprefix("prompt is too long: ").removesuffix(f" tokens > {CONTEXT} maximum")
        assert int(found) > CONTEXT


async def test_a_model_that_repeats_itself_is_a_failure(backend: OllamaBackend) -> None:
    for stream in (True, False):
        error, sent = await failure(backend, body("[[same]]", stream=stream))
        assert error.status == 502
        assert "without finishing" in error.message
        assert b"message_stop" not in sent


async def test_an_answer_in_a_given_form(backend: OllamaBackend) -> None:
    wanted = {
        "type": "object",
        "properties": {"title": {"type": "string"}},
        "required": ["title"],
        "additionalProperties": False,
    }
    fields = {"output_config": {"format": {"type": "json_schema", "schema": wanted}}}
    assert json.loads(sse.text_of(await answer(backend, body("[[json]]", **fields)))) == {"title": "A title"}


async def test_a_form_that_makes_no_sense(backend: OllamaBackend) -> None:
    fields = {"output_config": {"format": {"type": "json_schema", "schema": {"type": "nonsense"}}}}
    error, _ = await failure(backend, body("hi", **fields))
    assert (error.status, error.message) == (400, "output_config.format: invalid JSON schema in format")


async def test_a_prefilled_answer_is_continued(backend: OllamaBackend, ollama: OllamaServer) -> None:
    messages = [{"role": "user", "content": "[[loop]]"}, {"role": "assistant", "content": "la "}]
    message = await answer(backend, body("", messages=messages, max_tokens=2))
    assert sse.text_of(message).split() == ["lo", "lu"]


async def test_results_with_pictures_errors_and_documents(backend: OllamaBackend) -> None:
    picture = {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png()).decode()},
    }
    results = [
        {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "see"}, picture]},
        {"type": "tool_result", "tool_use_id": "b", "content": "no such file", "is_error": True},
    ]
    messages = [
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "a", "name": "Read", "input": {"file_path": "/x.png"}},
                {"type": "tool_use", "id": "b", "name": "Read", "input": {"file_path": "/y"}},
            ],
        },
        {"role": "user", "content": results},
    ]
    assert sse.text_of(await answer(backend, body("", messages=messages, tools=TOOLS))) == TEXT


async def test_counting(backend: OllamaBackend) -> None:
    request = body("How many tokens are these?")
    estimate, exact = await backend.count_tokens(request)
    assert not exact
    counted = prompt_tokens(await answer(backend, request))
    assert abs(estimate - counted) <= 0.5 * counted
    assert await backend.count_tokens(request) == (counted, True)


async def test_estimates_learn(backend: OllamaBackend) -> None:
    long = " ".join(f"def function_{number}(argument): return argument" for number in range(120))
    counted = prompt_tokens(await answer(backend, body(long)))
    other = " ".join(f"def method_{number}(value): return value" for number in range(120))
    estimate = backend.estimate(body(other))
    assert abs(estimate - prompt_tokens(await answer(backend, body(other)))) <= 0.3 * counted


async def test_reasoning(thinker: OllamaBackend) -> None:
    message = await answer(thinker, body("[[think]]", thinking={"type": "adaptive"}))
    thought, said = message["content"]
    assert (thought["type"], thought["thinking"]) == ("thinking", "I wonder why")
    assert thought["signature"]
    assert (said["type"], said["text"]) == ("text", "Because so.")
    info = thinker.model()
    assert info is not None
    assert info.thinking


async def test_a_model_that_does_not_reason_is_not_asked_to(backend: OllamaBackend) -> None:
    message = await answer(backend, body("hi", thinking={"type": "enabled", "budget_tokens": 1024}))
    assert sse.text_of(message) == TEXT
