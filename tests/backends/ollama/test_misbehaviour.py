"""What becomes of answers that a real Ollama gives only when something is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from llmhost.backends.ollama.backend import OllamaBackend
from llmhost.core.server_config import BackendConfig, Timing
from tests.support import sse
from tests.support.fake_ollama import FakeOllama, Reply, last, line
from tests.support.ollama_calls import answer, failure, prompt_tokens, until
from tests.support.pdf import pdf_base64


def body(content: Any = "hi", **fields: Any) -> dict[str, Any]:
    return {"max_tokens": 50, "stream": True, "messages": [{"role": "user", "content": content}], **fields}


@pytest.fixture
async def fake() -> AsyncIterator[FakeOllama]:
    async with FakeOllama().serve() as server:
        yield server


@pytest.fixture
async def backend(fake: FakeOllama) -> AsyncIterator[OllamaBackend]:
    async with serving(fake) as found:
        yield found


@asynccontextmanager
async def serving(fake: FakeOllama, **settings: Any) -> AsyncIterator[OllamaBackend]:
    config = BackendConfig("ollama", url=fake.url, **settings)
    found = OllamaBackend(config, Timing(), poll_s=0.05, look_s=0.3, hold_s=5.0, probe_s=0.5)
    await found.start()
    try:
        yield found
    finally:
        await found.aclose()


def error(status: int, text: str) -> Reply:
    return Reply([b'{"error":"%b"}' % text.encode()], status)


LLAMA = "request (70000 tokens) exceeds the available context size (65536 tokens), try increasing it"


@pytest.mark.parametrize(
    ("reply", "status", "kind", "words"),
    [
        (error(503, "server busy, please try again"), 529, "overloaded_error", "busy"),
        (error(400, LLAMA), 400, "invalid_request_error", "prompt is too long: 70000 tokens > 65536 maximum"),
        (
            error(400, "the input length exceeds the context length"),
            400,
            "invalid_request_error",
            "tokens > 1000 maximum",
        ),
        (error(400, "illegal base64 data"), 400, "invalid_request_error", "illegal base64 data"),
        (error(404, "model 'fake' not found"), 404, "not_found_error", "llmhost up --model fake"),
        (error(500, "model runner has unexpectedly stopped"), 503, "api_error", "stopped"),
        (error(500, "no luck"), 502, "api_error", "no luck"),
        (Reply([b"<html>"], 502), 502, "api_error", "502"),
        (Reply([], 500), 502, "api_error", "500"),
    ],
)
async def test_error_statuses(
    backend: OllamaBackend, fake: FakeOllama, reply: Reply, status: int, kind: str, words: str
) -> None:
    fake.reply = reply
    found, sent = await failure(backend, body())
    assert (found.status, found.type, sent) == (status, kind, b"")
    assert words in found.message


@pytest.mark.parametrize(
    "reply",
    [
        Reply([line("half")]),
        Reply([]),
        Reply([b'{"model":"","created_at":"0001-01-01T00:00:00Z","message":{"role":"","content":""},"done":false}']),
        Reply([line("half"), b'{"error":"unexpected EOF"}\n']),
        Reply([line("half"), b"not json\n"]),
        Reply([line("half"), b"[]\n"]),
        Reply([line("half"), line("and")[:20]], breaks_off=True),
    ],
)
async def test_an_answer_without_its_end_is_a_failure(backend: OllamaBackend, fake: FakeOllama, reply: Reply) -> None:
    fake.reply = reply
    found, sent = await failure(backend, body())
    assert found.status == 502
    assert b"message_stop" not in sent
    assert (b"half" in sent) == any(b"half" in piece for piece in reply.pieces)
    fake.reply = Reply([line("well"), last()])
    assert sse.text_of(await answer(backend, body())) == "well"


async def test_lines_may_be_cut_anywhere(backend: OllamaBackend, fake: FakeOllama) -> None:
    whole = line("Grüße, ") + line("🙂 \\n") + last()
    fake.reply = Reply([whole[at : at + 7] for at in range(0, len(whole), 7)])
    assert sse.text_of(await answer(backend, body())) == "Grüße, 🙂 \\n"


async def test_a_last_line_without_a_line_break_counts(backend: OllamaBackend, fake: FakeOllama) -> None:
    fake.reply = Reply([line("done"), last(prompt_eval_count=77).rstrip()])
    message = await answer(backend, body())
    assert sse.text_of(message) == "done"
    assert prompt_tokens(message) == 77


async def test_unknown_fields_are_ignored(backend: OllamaBackend, fake: FakeOllama) -> None:
    fake.reply = Reply([line("a", logprobs=[1], later={"x": 1}), b'{"hello":1}\n', last()])
    assert sse.text_of(await answer(backend, body())) == "a"


async def test_calls_without_a_name_or_arguments(backend: OllamaBackend, fake: FakeOllama) -> None:
    calls = [{"function": {"name": "Bash"}}, {"function": {"arguments": {"a": 1}}}, {}]
    message = {"role": "assistant", "content": "", "tool_calls": calls}
    fake.reply = Reply([line(message=message), last()])
    found = await answer(backend, body())
    assert sse.tools_of(found) == [("Bash", {})]


async def test_reasoning_is_signed_and_closed_before_a_call(fake: FakeOllama) -> None:
    fake.show = {"capabilities": ["completion", "tools", "thinking"], "details": {"family": "gptoss"}}
    message = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "Bash", "arguments": {}}}]}
    thought = {"role": "assistant", "content": "", "thinking": "hm"}
    fake.reply = Reply([line(message=thought), line(message=message), last()])
    async with serving(fake) as backend:
        effort = {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}
        found = await answer(backend, body(**effort))
        await answer(backend, body())
    assert [block["type"] for block in found["content"]] == ["thinking", "tool_use"]
    assert found["content"][0]["signature"]
    assert [asked["think"] for asked in fake.asked] == ["high", "low"]


async def test_pictures_are_passed_on_to_a_model_that_sees(fake: FakeOllama) -> None:
    fake.show = {"capabilities": ["completion", "tools", "vision"]}
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    async with serving(fake) as backend:
        await answer(backend, body([picture, {"type": "text", "text": "what is it?"}]))
    assert fake.asked[0]["messages"] == [{"role": "user", "content": "what is it?", "images": ["aGk="]}]


async def test_a_pdf_is_read_once_and_then_known(backend: OllamaBackend, fake: FakeOllama) -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": pdf_base64("The word is", "swordfish")}
    for _ in range(2):
        await answer(backend, body([{"type": "document", "source": source}]))
    texts = {asked["messages"][0]["content"] for asked in fake.asked}
    assert texts == {"[document]\n[page 1]\nThe word is\n\n[page 2]\nswordfish"}
    assert "swordfish" in str(fake.asked)


async def test_every_request_asks_for_the_window_that_was_loaded(fake: FakeOllama) -> None:
    async with serving(fake, context=1000, keep_alive="30m") as backend:
        await answer(backend, body(temperature=0.5))
    (asked,) = fake.asked
    assert asked["options"] == {"num_ctx": 1000, "num_predict": 50, "temperature": 0.5}
    assert (asked["truncate"], asked["shift"], asked["keep_alive"]) == (False, False, "30m")
    assert "think" not in asked


async def test_without_a_wish_the_window_is_ollamas_own_and_is_read_back(
    backend: OllamaBackend, fake: FakeOllama
) -> None:
    await answer(backend, body(max_tokens=None))
    assert "num_ctx" not in fake.asked[0]["options"]
    info = backend.model()
    assert info is not None
    assert (info.context, info.max_output) == (1000, 500)


async def test_large_numbers_are_written_out_for_qwens_renderer(fake: FakeOllama) -> None:
    fake.show |= {"renderer": "qwen3-coder"}
    calls = [
        {
            "type": "tool_use",
            "id": "a",
            "name": "Bash",
            "input": {"timeout": 1_200_000, "n": 5, "deep": {"x": 9_000_000}},
        }
    ]
    messages = [{"role": "user", "content": "go"}, {"role": "assistant", "content": calls}]
    async with serving(fake) as backend:
        await answer(backend, body(messages=messages))
    call = fake.asked[0]["messages"][1]["tool_calls"][0]["function"]
    assert call["arguments"] == {"timeout": "1200000", "n": 5, "deep": {"x": 9_000_000}}


async def test_a_model_that_cannot_be_loaded(fake: FakeOllama) -> None:
    fake.load_status = 500
    async with serving(fake) as backend:
        await until(lambda: backend.health().state == "failed", "the backend to be failed")
        found, _ = await failure(backend, body())
        assert found.status == 503
        assert "no memory" in found.message
        fake.load_status = 200
        await until(lambda: backend.health().state == "ok", "the backend to be ok")


async def test_no_model_at_all(fake: FakeOllama) -> None:
    fake.show = {"capabilities": ["embedding"]}
    async with serving(fake) as backend:
        await until(lambda: backend.health().state == "failed", "the backend to be failed")
        assert backend.health().detail == "Ollama has no model that can chat"


async def test_something_that_is_not_ollama(fake: FakeOllama) -> None:
    fake.tags = ["surprise"]
    async with serving(fake) as backend:
        await until(lambda: backend.health().state == "failed", "the backend to be failed")
        assert "does not speak Ollama's API" in backend.health().detail
        fake.tags = None
        await until(lambda: backend.health().state == "ok", "the backend to be ok")


async def test_a_new_version_of_the_model_is_noticed(fake: FakeOllama) -> None:
    async with serving(fake) as backend:
        await answer(backend, body())
        before = backend.model()
        fake.running["digest"] = "d2"
        await until(lambda: backend.model() not in (None, before), "the new version")
        now = backend.model()
        assert before is not None
        assert now is not None
        assert now.digest != before.digest


async def test_a_window_that_ollama_has_changed_is_noticed(fake: FakeOllama) -> None:
    async with serving(fake, context=1000) as backend:
        await answer(backend, body())
        fake.running["context_length"] = 512
        await until(lambda: backend.model().context == 512, "the new window")


async def test_an_ollama_that_freezes_ends_the_answers_it_owes(fake: FakeOllama) -> None:
    fake.reply = Reply([line("hi "), line("there"), last()])
    async with serving(fake) as backend:
        await answer(backend, body())
        fake.awake.clear()
        error, _ = await failure(backend, body("again"))
        assert (error.status, backend.health().state) == (503, "failed")
        fake.awake.set()
        await until(lambda: backend.health().state == "ok", "the backend to come back")
        assert sse.text_of(await answer(backend, body("and again"))) == "hi there"


@pytest.mark.parametrize("schema", [{"enum": 5}, {"anyOf": 7}, {"type": 3, "oneOf": "x"}, {"properties": []}])
async def test_a_careless_schema_costs_no_answer(backend: OllamaBackend, fake: FakeOllama, schema: Any) -> None:
    call = {"function": {"name": "Odd", "arguments": {"a": "1"}}}
    fake.reply = Reply(
        [line(tool_calls=None, message={"role": "assistant", "content": "", "tool_calls": [call]}), last()]
    )
    tools = [{"name": "Odd", "input_schema": {"type": "object", "properties": {"a": schema}}}]
    assert sse.tools_of(await answer(backend, body(tools=tools))) == [("Odd", {"a": "1"})]
