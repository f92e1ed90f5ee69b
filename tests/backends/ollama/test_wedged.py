"""An Ollama that hangs for good after an answer that ended early, as the real 0.24.0 sometimes does: it is always brought back."""

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
from tests.support.fake_ollama import FakeOllama, Reply, Wedge, last, line
from tests.support.ollama_calls import answer, failure, frames, until

REPLY = Reply([line("one "), line("two"), last()])
BOUND_S = 15.0


def body(content: Any = "hi", **fields: Any) -> dict[str, Any]:
    return {"max_tokens": 50, "stream": True, "messages": [{"role": "user", "content": content}], **fields}


@pytest.fixture
async def fake() -> AsyncIterator[FakeOllama]:
    async with FakeOllama(reply=REPLY).serve() as server:
        yield server


@asynccontextmanager
async def serving(fake: FakeOllama, *, probe_s: float = 0.3, **timing: float) -> AsyncIterator[OllamaBackend]:
    config = BackendConfig("ollama", url=fake.url)
    found = OllamaBackend(config, Timing(), **{"poll_s": 0.05, "hold_s": 5.0, "probe_s": probe_s, **timing})
    await found.start()
    try:
        yield found
    finally:
        await found.aclose()


async def leave(backend: OllamaBackend, seen: bytes) -> None:
    """Ask, and be gone once a frame with these bytes has come."""
    async with aclosing(frames(backend, body("left behind"))) as pieces:  # type: ignore[type-var]
        async for frame in pieces:
            if seen in frame:
                return


async def expect_answer(backend: OllamaBackend, words: str = "and the next", **fields: Any) -> None:
    async with asyncio.timeout(BOUND_S):
        assert sse.text_of(await answer(backend, body(words, **fields))) == "one two"


@pytest.mark.parametrize("seen", [b"", b"text_delta"])
async def test_left_in_the_middle(fake: FakeOllama, seen: bytes) -> None:
    async with serving(fake) as backend:
        await answer(backend, body())
        fake.wedges = "left in the middle"
        await leave(backend, seen)
        await expect_answer(backend)
    assert fake.unloaded == 1


async def test_left_before_the_headers(fake: FakeOllama) -> None:
    async with serving(fake) as backend:
        await answer(backend, body())
        fake.wedges = "left before the headers"
        waiting = asyncio.create_task(answer(backend, body("left behind")))
        await until(lambda: len(fake.asked) == 2, "Ollama to have the request")
        waiting.cancel()
        await expect_answer(backend)
    assert fake.unloaded == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply([line("one "), b'{"error":"XML syntax error on line 5"}\n']),
        Reply([b'{"error":"XML syntax error on line 5"}'], status=500),
    ],
)
async def test_ended_by_a_call_that_ollama_cannot_parse(fake: FakeOllama, reply: Reply) -> None:
    async with serving(fake) as backend:
        await answer(backend, body())
        fake.wedges, fake.reply = "ended by an error", reply
        error, _ = await failure(backend, body())
        assert error.status == 502
        fake.reply = REPLY
        await expect_answer(backend)
    assert fake.unloaded == 1


@pytest.mark.parametrize("others", [1, 3])
async def test_cut_short_by_us_while_others_queue(fake: FakeOllama, others: int) -> None:
    async with serving(fake) as backend:
        await answer(backend, body())
        fake.wedges, fake.reply = "left in the middle", Reply([line("one STOP"), last()])
        cut = asyncio.create_task(answer(backend, body("to be cut", stop_sequences=["STOP"])))
        await until(lambda: len(fake.asked) == 2, "Ollama to have the request")
        fake.reply = REPLY
        queue = [asyncio.create_task(expect_answer(backend, f"queueing {n}")) for n in range(others)]
        async with asyncio.timeout(BOUND_S):
            assert (await cut)["stop_reason"] == "stop_sequence"
            await asyncio.gather(*queue)
    assert fake.unloaded == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_those_who_queue_are_answered_too(fake: FakeOllama, stream: bool) -> None:
    """They keep the model from being unloaded, so they are called back first."""
    async with serving(fake) as backend:
        await answer(backend, body())
        fake.wedges = "left in the middle"
        leaving = asyncio.create_task(leave(backend, b"never"))
        await until(lambda: len(fake.asked) == 2, "Ollama to have the request")
        queue = [asyncio.create_task(expect_answer(backend, f"queueing {n}", stream=stream)) for n in range(3)]
        await until(lambda: fake.clients == 4, "all to queue")
        leaving.cancel()
        await asyncio.gather(*queue)
    assert fake.unloaded == 1


async def test_a_long_prompt_of_another_is_no_reason_to_load_the_model_again(fake: FakeOllama) -> None:
    async with serving(fake) as backend:
        await answer(backend, body())
        async with asyncio.timeout(BOUND_S), fake.slot:  # another client's; the request here waits for it
            knocks = fake.knocks
            first = asyncio.create_task(expect_answer(backend, "first"))
            await until(lambda: fake.clients == 1, "the first to queue")
            leaving = asyncio.create_task(expect_answer(backend, "leaving"))
            await until(lambda: fake.clients == 2, "the second to queue")
            leaving.cancel()
            await until(lambda: fake.knocks > knocks, "Ollama to be asked")
        await first
    assert fake.unloaded == 0


async def test_behind_a_long_answer_the_others_wait_patiently(fake: FakeOllama) -> None:
    """One of them leaves, and all are there longer than a request is held or may be silent: yet nothing is wrong."""
    async with serving(fake, hold_s=0.2, silent_s=0.2, probe_s=0.1) as backend:
        await answer(backend, body())
        fake.awake.clear()
        long = frames(backend, body("long"))
        assert await anext(long) == b""
        queue = [asyncio.create_task(expect_answer(backend, f"queueing {n}")) for n in range(2)]
        leaving = asyncio.create_task(expect_answer(backend, "leaving"))
        await until(lambda: fake.clients == 4, "all to queue")
        knocks = fake.knocks
        leaving.cancel()
        await until(lambda: fake.knocks >= knocks + 2, "Ollama to be asked twice")
        await asyncio.wait(queue, timeout=0.5)
        assert not any(task.done() for task in queue)
        fake.awake.set()
        assert b"message_stop" in b"".join([frame async for frame in long])
        await asyncio.gather(*queue)
    assert fake.unloaded == 0


async def test_it_hung_before_we_came(fake: FakeOllama) -> None:
    async with serving(fake) as backend:
        await answer(backend, body())
    await fake.slot.acquire()  # nobody gives it back
    async with serving(fake) as backend:
        await expect_answer(backend)
    assert fake.unloaded == 1


async def test_it_hangs_for_a_reason_that_nobody_saw(fake: FakeOllama) -> None:
    async with serving(fake, silent_s=0.3) as backend:
        await answer(backend, body())
        await fake.slot.acquire()
        await expect_answer(backend)
    assert fake.unloaded == 1


async def test_while_it_cannot_be_unloaded_requests_are_told_to_come_again(fake: FakeOllama) -> None:
    async with serving(fake, hold_s=0.5) as backend:
        await answer(backend, body())
        fake.clients += 1  # somebody else queues, and keeps the model loaded
        fake.wedges = "left in the middle"
        await leave(backend, b"text_delta")
        error, _ = await failure(backend, body())
        assert (error.status, bool(error.retry_after)) == (529, True)
        await until(lambda: backend.health().state == "starting", "the backend to say so")
        fake.clients -= 1
        fake._expire()
        await until(lambda: backend.health().state == "ok", "the model to be loaded again")
        await expect_answer(backend)


async def test_a_frozen_one_may_hang_when_it_comes_back(fake: FakeOllama) -> None:
    async with serving(fake, look_s=0.1) as backend:
        await answer(backend, body())
        fake.wedges = "left before the headers"
        waiting = asyncio.create_task(answer(backend, body()))
        await until(lambda: len(fake.asked) == 2, "Ollama to have the request")
        fake.awake.clear()
        with pytest.raises(ApiError, match="stopped answering"):
            await waiting
        fake.awake.set()
        await until(lambda: backend.health().state == "ok", "the backend to come back")
        await expect_answer(backend)


async def test_closing_never_waits_for_ever(fake: FakeOllama) -> None:
    async with asyncio.timeout(BOUND_S):
        async with serving(fake, probe_s=60.0, close_s=0.1) as backend:
            await answer(backend, body())
            fake.wedges = "left in the middle"
            await leave(backend, b"text_delta")


async def test_nothing_is_checked_after_answers_that_ended_well(fake: FakeOllama) -> None:
    async with serving(fake) as backend:
        await answer(backend, body())
        knocks = fake.knocks
        for stream in (True, False):
            await answer(backend, body(stream=stream))
        fake.reply = Reply([b'{"error":"illegal base64 data"}'], 400)
        assert (await failure(backend, body()))[0].status == 400
        assert fake.knocks == knocks


@pytest.mark.parametrize("wedge", ["left before the headers", "left in the middle"])
async def test_leaving_at_any_time_holds_nobody_up(fake: FakeOllama, wedge: Wedge) -> None:
    async with serving(fake) as backend:
        await answer(backend, body())
        fake.wedges = wedge
        async with asyncio.timeout(BOUND_S):
            leaving = asyncio.create_task(leave(backend, b"never"))
            await until(lambda: len(fake.asked) == 2, "Ollama to have the request")
            leaving.cancel()
            for n in range(3):
                await asyncio.gather(*(expect_answer(backend, f"{n} {m}") for m in range(3)))
