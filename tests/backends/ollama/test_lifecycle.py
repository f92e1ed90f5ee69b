"""An Ollama that comes late, goes, comes back, and is not kept busy for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from llmhost.backends.base import BackendHealth
from llmhost.backends.ollama.backend import OllamaBackend
from llmhost.messages.errors import ApiError
from tests.backends.ollama.conftest import CONTEXT, create_models, serving
from tests.backends.ollama.scripts import SCRIPTS
from tests.support import sse
from tests.support.ollama_calls import answer, failure, frames, until
from tests.support.ollama_server import OllamaServer, scripted_model
from tests.support.system import free_port

HI = {"max_tokens": 50, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
ENDLESS = {"max_tokens": 4000, "stream": True, "messages": [{"role": "user", "content": "[[loop]]"}]}


@pytest.fixture
def own_ollama(tmp_path: Path) -> Iterator[OllamaServer]:
    """A server this test may do with as it likes; not started."""
    server = OllamaServer(tmp_path / "ollama")
    server.start()
    create_models(server)
    server.stop()
    yield server
    server.stop()


async def test_before_ollama_is_there_a_request_is_held_then_told_to_come_again() -> None:
    async with serving(f"http://127.0.0.1:{free_port()}", hold_s=0.3) as backend:
        assert backend.health().state == "starting"
        assert backend.model() is None
        error, sent = await failure(backend, HI)
        assert (error.status, error.type, sent) == (529, "overloaded_error", b"")
        assert error.retry_after
        assert (await backend.count_tokens(HI))[1] is False


async def test_a_request_that_came_early_is_answered_once_ollama_is_there(own_ollama: OllamaServer) -> None:
    async with serving(own_ollama.url) as backend:
        early = asyncio.create_task(answer(backend, HI))
        await asyncio.sleep(0.05)
        assert not early.done()
        own_ollama.start()
        assert sse.text_of(await early).startswith("Hello")
        assert backend.health() == BackendHealth("ok", "scripted:latest is loaded", {"ollama": "ok"})


async def test_an_ollama_that_dies_is_noticed_and_one_that_returns_is_used(own_ollama: OllamaServer) -> None:
    own_ollama.start()
    async with serving(own_ollama.url) as backend:
        with pytest.raises(ApiError) as broken:  # noqa: PT012  the failure is in the middle of the loop
            async with aclosing(frames(backend, ENDLESS)) as pieces:  # type: ignore[type-var]
                async for frame in pieces:
                    if b"text_delta" in frame:
                        own_ollama.stop()
        assert broken.value.status == 502
        await until(lambda: backend.health().state == "failed", "the backend to notice")
        assert backend.health().components == {"ollama": "failed"}
        error, _ = await failure(backend, HI)
        assert (error.status, bool(error.retry_after)) == (503, True)

        own_ollama.start()
        await until(lambda: backend.health().state == "ok", "the backend to come back")
        assert sse.text_of(await answer(backend, HI)).startswith("Hello")


async def test_a_request_notices_first(own_ollama: OllamaServer) -> None:
    own_ollama.start()
    async with serving(own_ollama.url, poll_s=60.0) as backend:
        await answer(backend, HI)
        own_ollama.stop()
        error, _ = await failure(backend, HI)
        assert error.status in (502, 503)
        await until(
            lambda: backend.health().state == "failed", "the backend to notice without waiting for its next look"
        )


async def test_a_model_unloaded_behind_our_back_is_loaded_again(own_ollama: OllamaServer) -> None:
    own_ollama.start()
    async with serving(own_ollama.url) as backend:
        await answer(backend, HI)
        mark = own_ollama.mark()
        own_ollama.ask("/api/chat", {"model": "scripted", "messages": [], "keep_alive": 0})
        await until(lambda: own_ollama.loads(mark) == 1, "the model to be loaded again")
        assert sse.text_of(await answer(backend, HI)).startswith("Hello")
        assert own_ollama.loads(mark) == 1


async def test_a_model_that_is_not_there_is_named_and_used_once_it_is(own_ollama: OllamaServer) -> None:
    own_ollama.start()
    async with serving(own_ollama.url, "later") as backend:
        await until(lambda: backend.health().state == "failed", "the missing model to be noticed")
        assert "later" in backend.health().detail
        error, _ = await failure(backend, HI)
        assert (error.status, error.type) == (404, "not_found_error")
        assert "llmhost up --model later" in error.message
        own_ollama.create("later", scripted_model(SCRIPTS), renderer="qwen3-coder", parser="qwen3-coder")
        await until(lambda: backend.health().state == "ok", "the model to be used")
        assert sse.text_of(await answer(backend, HI)).startswith("Hello")


async def test_without_a_wish_a_model_that_calls_tools_is_chosen(ollama: OllamaServer) -> None:
    async with serving(ollama.url, None) as backend:
        await answer(backend, HI)
        info = backend.model()
        assert info is not None
        assert (info.id, info.tools, info.vision) == ("scripted:latest", True, False)
        assert info.context == CONTEXT


async def test_the_window_is_never_larger_than_the_models_own(own_ollama: OllamaServer) -> None:
    own_ollama.start()
    own_ollama.create("small", scripted_model(SCRIPTS, context=2048), renderer="qwen3-coder", parser="qwen3-coder")
    async with serving(own_ollama.url, "small") as backend:
        await answer(backend, HI)
        mark = own_ollama.mark()
        info = backend.model()
        assert info is not None
        assert info.context == 2048
        await answer(backend, HI)
        assert own_ollama.loads(mark) == 0


async def test_another_codec_or_model_is_another_digest(ollama: OllamaServer) -> None:
    digests = set()
    for name in ("scripted", "thinker"):
        async with serving(ollama.url, name) as backend:
            await answer(backend, HI)
            info = backend.model()
            assert info is not None
            digests.add(info.digest)
    assert len(digests) == 2


async def test_a_client_that_leaves_frees_the_engine(backend: OllamaBackend, ollama: OllamaServer) -> None:
    await answer(backend, HI)
    mark = ollama.mark()
    pieces = frames(backend, ENDLESS)
    async for frame in pieces:
        if b"text_delta" in frame:
            break
    await pieces.aclose()  # type: ignore[attr-defined]
    await answer(backend, HI)
    endless, *after = ollama.slots(mark)  # the next answer, and the check that Ollama goes on at all
    assert after
    assert all(slot.held < endless.prompt + 1000 for slot in after), "Ollama went on for nobody"


async def test_a_client_that_leaves_before_the_first_token_does_so_too(
    backend: OllamaBackend, ollama: OllamaServer
) -> None:
    await answer(backend, HI)
    waiting = asyncio.create_task(
        answer(backend, {**ENDLESS, "messages": [{"role": "user", "content": "[[loop]]" + " x" * 2000}]})
    )
    await asyncio.sleep(0.05)
    waiting.cancel()
    mark = ollama.mark()
    assert sse.text_of(await answer(backend, HI)).startswith("Hello")
    assert ollama.slots(mark)[-1].held < 3000


async def test_calls_that_ollama_cannot_parse_hold_nobody_up(backend: OllamaBackend) -> None:
    """After 1 in 14 of them Ollama keeps its slot for good."""
    tools = [{"name": "Bash", "description": "Runs", "input_schema": {"type": "object", "properties": {}}}]
    broken = {**HI, "messages": [{"role": "user", "content": "[[broken]]"}], "tools": tools}
    for stream in (True, False) * 8:
        error, _ = await failure(backend, {**broken, "stream": stream})
        assert error.status == 502
        async with asyncio.timeout(60):
            assert sse.text_of(await answer(backend, HI)).startswith("Hello")


async def test_a_request_without_tools_steps_back(backend: OllamaBackend) -> None:
    tools = [{"name": "Bash", "description": "Runs", "input_schema": {"type": "object", "properties": {}}}]
    await answer(backend, HI)
    main = frames(backend, {**ENDLESS, "tools": tools})
    async for frame in main:
        if b"text_delta" in frame:
            break
    title = asyncio.create_task(answer(backend, HI))
    await asyncio.sleep(0.05)
    assert not title.done()
    await main.aclose()  # type: ignore[attr-defined]
    assert sse.text_of(await title).startswith("Hello")
