"""One of several models hangs for good after an answer that ended early: it is brought back, and the others are not held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest

from llmhost.backends.ollama.backend import OllamaBackend
from llmhost.core.server_config import BackendConfig, Timing
from llmhost.messages.errors import ApiError
from tests.support import sse
from tests.support.fake_ollama import FakeOllama
from tests.support.fake_shelf import FakeShelf, fake_model
from tests.support.ollama_calls import answer, frames, until

SAID = {None: "main says so", "other": "other says so"}
BOUND_S = 20.0


def body(content: Any = "hi", **fields: Any) -> dict[str, Any]:
    return {"max_tokens": 50, "stream": True, "messages": [{"role": "user", "content": content}], **fields}


@pytest.fixture(params=[1, 2])
async def shelf(request: pytest.FixtureRequest) -> AsyncIterator[FakeShelf]:
    """Two models, with room for one or for both."""
    models = {
        "main:latest": fake_model("main:latest", SAID[None]),
        "other:latest": fake_model("other:latest", SAID["other"]),
    }
    async with FakeShelf(models, room=request.param).serve() as server:
        yield server


@asynccontextmanager
async def serving(shelf: FakeShelf, **pace: float) -> AsyncIterator[OllamaBackend]:
    config = BackendConfig("ollama", url=shelf.url, model="main")
    found = OllamaBackend(config, Timing(), **{"poll_s": 0.05, "hold_s": 5.0, "probe_s": 0.3, "grace_s": 0.2, **pace})
    await found.start()
    try:
        yield found
    finally:
        await found.aclose()


async def expect(backend: OllamaBackend, model: str | None) -> None:
    async with asyncio.timeout(BOUND_S):
        assert sse.text_of(await answer(backend, body(), model)) == SAID[model]


async def leave(backend: OllamaBackend, model: str | None) -> None:
    async with aclosing(frames(backend, body("left behind"), model)) as pieces:  # type: ignore[type-var]
        async for frame in pieces:
            if b"text_delta" in frame:
                return


def fake_of(shelf: FakeShelf, model: str | None) -> FakeOllama:
    return shelf.models[f"{model or 'main'}:latest"]


@pytest.mark.parametrize("hanging", [None, "other"])
@pytest.mark.parametrize("next_one", [None, "other"])
async def test_left_in_the_middle(shelf: FakeShelf, hanging: str | None, next_one: str | None) -> None:
    async with serving(shelf) as backend:
        for model in ("other", None, hanging):
            await expect(backend, model)
        fake_of(shelf, hanging).wedges = "left in the middle"
        await leave(backend, hanging)
        await expect(backend, next_one)
        for model in (None, "other"):
            await expect(backend, model)


async def test_a_hang_that_nobody_saw_while_the_other_model_is_asked_for(shelf: FakeShelf) -> None:
    """The other may have to wait for the request that hangs; so the check must not wait for the other."""
    async with serving(shelf, silent_s=0.3) as backend:
        await expect(backend, None)
        await fake_of(shelf, None).slot.acquire()  # nobody gives it back
        hanging = asyncio.create_task(expect(backend, None))
        await until(lambda: fake_of(shelf, None).clients == 1, "the request to hang")
        await asyncio.gather(hanging, expect(backend, "other"))
        await expect(backend, None)


async def test_taking_turns_is_no_hang(shelf: FakeShelf) -> None:
    """Requests for both come all the time, and nothing is loaded but what has to be."""
    async with serving(shelf) as backend:
        await asyncio.gather(*(expect(backend, model) for model in (None, "other") * 10))
        assert backend.health().state == "ok"
    loads = shelf.loads.count("main:latest"), shelf.loads.count("other:latest")
    assert max(loads) <= (1 if shelf.room == 2 else 5)


async def test_one_that_cannot_be_loaded_fails_alone_and_is_tried_again_later(shelf: FakeShelf) -> None:
    async with serving(shelf) as backend:
        await expect(backend, None)
        fake_of(shelf, "other").load_status = 500
        for _ in range(3):
            with pytest.raises(ApiError, match="no memory"):
                await answer(backend, body(), "other")
        assert shelf.loads.count("other:latest") == 1, "each try may drive the main model out"
        await expect(backend, None)
        assert backend.health().state == "ok"


async def test_an_ollama_that_was_restarted_has_neither_in_memory(shelf: FakeShelf) -> None:
    async with serving(shelf) as backend:
        for model in (None, "other"):
            await expect(backend, model)
        for fake in shelf.models.values():
            fake.loaded = False
        for model in ("other", None):
            await expect(backend, model)
