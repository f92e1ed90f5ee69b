"""One of several models hangs for good after an answer that ended early: it is brought back, and the others are not held up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
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


async def test_an_ollama_that_is_gone_is_told_at_once_and_not_asked_without_end() -> None:
    models = {f"{name}:latest": fake_model(f"{name}:latest", said) for name, said in (("main", "m"), ("other", "o"))}
    async with AsyncExitStack() as ending:
        stop = await ending.enter_async_context(AsyncExitStack())
        shelf = await stop.enter_async_context(FakeShelf(models, room=2).serve())
        backend = await ending.enter_async_context(serving(shelf))
        await answer(backend, body(), "other")
        await stop.aclose()
        await until(lambda: backend.health().state == "failed", "the end of Ollama to be seen")
        async with asyncio.timeout(3.0):
            for _ in range(2):
                with pytest.raises(ApiError) as told:
                    await answer(backend, body(), "other")
                assert told.value.status == 503


async def test_first_requests_that_come_together_share_one_model(shelf: FakeShelf) -> None:
    """Also when they are what makes it known."""
    late = shelf.models.pop("other:latest")
    async with serving(shelf, poll_s=5.0) as backend:
        await expect(backend, None)
        await until(lambda: backend.find("main") is not None, "the main model")
        await asyncio.sleep(1.1)  # a look is good for a second
        shelf.models["other:latest"] = late
        await asyncio.gather(*(expect(backend, "other") for _ in range(3)))
    assert shelf.loads.count("other:latest") == 1


async def test_one_that_is_deleted_while_requests_wait_for_it_lets_them_go(shelf: FakeShelf) -> None:
    async with serving(shelf, hold_s=BOUND_S) as backend:
        await expect(backend, None)
        async with aclosing(frames(backend, body("[[slow]]"))) as pieces:  # type: ignore[type-var]
            shelf.models["main:latest"].awake.clear()
            held = asyncio.create_task(anext(pieces))  # type: ignore[arg-type]
            await until(lambda: shelf.models["main:latest"].clients == 1, "the main model to be at work")
            waiting = asyncio.create_task(answer(backend, body(), "other"))
            await asyncio.wait([waiting], timeout=0.3)
            del shelf.models["other:latest"]
            await until(lambda: backend.find("other") is None, "the deletion to be seen")
            with pytest.raises(ApiError) as later:
                await answer(backend, body(), "other")
            assert later.value.status == 404
            async with asyncio.timeout(3.0):
                with pytest.raises(ApiError) as told:
                    await waiting
            assert told.value.status in (404, 503)
            shelf.models["main:latest"].awake.set()
            await held


async def test_one_that_made_room_has_the_window_it_had(shelf: FakeShelf) -> None:
    """What is said of it must not depend on whether it is in memory: sessions are given that window."""
    for one in shelf.models.values():
        one.show = {**one.show, "model_info": {"general.architecture": "x", "x.context_length": 200_000}}
    async with serving(shelf) as backend:
        for model in (None, "other", None):
            await expect(backend, model)
        assert {one.id: one.context for one in backend.models()} == {"main:latest": 1000, "other:latest": 1000}
        await expect(backend, "other")
        assert {one.id: one.context for one in backend.models()} == {"main:latest": 1000, "other:latest": 1000}


async def test_an_ollama_that_was_restarted_has_neither_in_memory(shelf: FakeShelf) -> None:
    async with serving(shelf) as backend:
        for model in (None, "other"):
            await expect(backend, model)
        for fake in shelf.models.values():
            fake.loaded = False
        for model in ("other", None):
            await expect(backend, model)
