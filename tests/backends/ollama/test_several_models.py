"""Several models of one real Ollama: asked for by name, side by side where there is room, in turns where there is not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from llmhost.backends.base import Call
from llmhost.backends.ollama.backend import OllamaBackend
from llmhost.core.server_config import BackendConfig, Timing
from llmhost.messages.writer import EventWriter
from tests.backends.ollama.scripts import SCRIPTS
from tests.support import sse
from tests.support.ollama_calls import answer, failure, frames, until
from tests.support.ollama_server import OllamaServer, scripted_model
from tests.support.scripted_gguf import LOOP

OTHER = {"default": ["Another ", "model ", "altogether."], "[[loop]]": ["ta ", "to ", "tu ", LOOP]}
HI = {"max_tokens": 50, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
ENDLESS = {"max_tokens": 4000, "stream": True, "messages": [{"role": "user", "content": "[[loop]]"}]}
CONTEXT = 4_096


def ollama_with(folder: Path, room: int) -> OllamaServer:
    """A server that keeps so many models in memory; `main` and `other` have weights of their own."""
    server = OllamaServer(folder, OLLAMA_MAX_LOADED_MODELS=str(room)).start()
    for name, scripts, context in (("main", SCRIPTS, 131_072), ("other", OTHER, 2_048)):
        server.create(name, scripted_model(scripts, context=context), renderer="qwen3-coder", parser="qwen3-coder")
    return server


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OllamaServer]:
    """Room for both."""
    server = ollama_with(tmp_path_factory.mktemp("wide"), 2)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OllamaServer]:
    """Room for one."""
    server = ollama_with(tmp_path_factory.mktemp("narrow"), 1)
    yield server
    server.stop()


@asynccontextmanager
async def serving(server: OllamaServer, **pace: float) -> AsyncIterator[OllamaBackend]:
    config = BackendConfig("ollama", url=server.url, model="main", context=CONTEXT)
    backend = OllamaBackend(config, Timing(), **{"poll_s": 0.1, "hold_s": 20.0, "probe_s": 5.0, "grace_s": 0.5, **pace})
    await backend.start()
    try:
        yield backend
    finally:
        await backend.aclose()


async def text(backend: OllamaBackend, model: str | None = None, body: dict[str, Any] = HI) -> str:
    return sse.text_of(await answer(backend, body, model))


async def expect(backend: OllamaBackend, model: str | None) -> None:
    async with asyncio.timeout(60):
        assert (await text(backend, model)).startswith("Another" if model else "Hello")


def in_memory(server: OllamaServer) -> set[str]:
    return {entry["name"] for entry in server.ask("/api/ps")["models"]}


async def test_both_stay_loaded_where_there_is_room(wide: OllamaServer) -> None:
    async with serving(wide) as backend:
        await expect(backend, None)
        await expect(backend, "other")
        mark = wide.mark()
        await asyncio.gather(*(expect(backend, model) for model in (None, "other") * 4))
        assert wide.loads(mark) == 0
        assert in_memory(wide) == {"main:latest", "other:latest"}


async def test_each_has_a_window_an_identity_and_books_of_its_own(wide: OllamaServer) -> None:
    async with serving(wide) as backend:
        served = {}
        for model in (None, "other"):
            call = Call(HI, b"", EventWriter("claude"), model=model)
            assert [frame async for frame in backend.generate(call)]
            served[model] = call.served
        main, other = backend.models()
        assert [main.id, other.id] == ["main:latest", "other:latest"]
        assert (main.context, other.context) == (CONTEXT, 2_048)
        assert served == {None: main.identity, "other": other.identity}
        assert backend.find("other") == other
        before = backend.reuse.prompt_tokens
        assert (await backend.count_tokens(HI, "other"))[1], "its own count is remembered"
        await expect(backend, "other")
        assert backend.reuse.prompt_tokens > before
        long = {**HI, "messages": [{"role": "user", "content": "x " * 30_000}]}
        error, _ = await failure(backend, long, "other")
        assert (error.status, "2048 maximum" in error.message) == (400, True)


async def test_where_there_is_room_for_one_they_take_turns_and_nothing_is_loaded_in_vain(narrow: OllamaServer) -> None:
    async with serving(narrow) as backend:
        await expect(backend, None)
        mark = narrow.mark()
        await expect(backend, "other")
        assert in_memory(narrow) == {"other:latest"}
        await asyncio.sleep(0.5)  # several looks of the main model's watch
        assert backend.health().state == "ok", "it can answer, though it has to be loaded first"
        assert backend.model() is not None
        assert narrow.loads(mark) == 1, "nobody asked for the main model"
        await expect(backend, None)
        await expect(backend, None)
        assert narrow.loads(mark) == 2
        assert in_memory(narrow) == {"main:latest"}


async def test_many_at_once_are_all_answered_by_the_model_they_name(narrow: OllamaServer) -> None:
    async with serving(narrow) as backend:
        await expect(backend, None)
        mark = narrow.mark()
        await asyncio.gather(*(expect(backend, model) for model in (None, "other") * 5))
        assert narrow.loads(mark) <= 6, "those who wait for one model are answered together"


async def test_another_model_waits_for_an_answer_under_way(narrow: OllamaServer) -> None:
    async with serving(narrow) as backend:
        await expect(backend, None)
        async with aclosing(frames(backend, ENDLESS)) as pieces:  # type: ignore[type-var]
            async for frame in pieces:
                if b"text_delta" in frame:
                    break
            asking = asyncio.create_task(expect(backend, "other"))
            await asyncio.wait([asking], timeout=0.3)
            assert not asking.done()
            assert in_memory(narrow) == {"main:latest"}
        await asking


async def test_answers_left_in_the_middle_hold_up_neither_model(narrow: OllamaServer) -> None:
    """Some of them make Ollama keep its slot for good."""
    async with serving(narrow) as backend:
        for turn in range(6):
            model = None if turn % 2 else "other"
            async with asyncio.timeout(60):
                async with aclosing(frames(backend, ENDLESS, model)) as pieces:  # type: ignore[type-var]
                    async for frame in pieces:
                        if b"text_delta" in frame:
                            break
                await expect(backend, "other" if turn % 3 else None)


async def test_what_is_not_there_is_named_and_found_as_soon_as_it_is(narrow: OllamaServer) -> None:
    async with serving(narrow, poll_s=30.0) as backend:
        await expect(backend, None)
        error, _ = await failure(backend, HI, "later")
        assert (error.status, "llmhost models pull later" in error.message) == (404, True)
        narrow.create("later", scripted_model(OTHER, context=2_048), renderer="qwen3-coder", parser="qwen3-coder")
        async with asyncio.timeout(20):
            while await backend.look_up("later") is None:  # noqa: ASYNC110 - whoever asks makes it look, at most once a second
                await asyncio.sleep(0.1)
        assert (await text(backend, "later")).startswith("Another")


async def test_a_model_that_was_deleted_is_no_longer_served(narrow: OllamaServer) -> None:
    narrow.create("short", scripted_model(OTHER, context=2_048), renderer="qwen3-coder", parser="qwen3-coder")
    async with serving(narrow) as backend:
        assert (await text(backend, "short")).startswith("Another")
        narrow.delete("short")
        await until(lambda: backend.find("short") is None, "the deletion to be seen")
        assert (await failure(backend, HI, "short"))[0].status == 404
        await expect(backend, None)
