"""What the pipeline relies on, over every backend: without a model, in front of Ollama, in front of nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing
from typing import Any

import orjson
import pytest

from llmhost.backends.base import Backend, Call
from llmhost.backends.factory import open_backend
from llmhost.core.server_config import BackendConfig, NodeConfig, Timing
from llmhost.messages.errors import ApiError
from llmhost.messages.writer import EventWriter
from tests.support.fake_ollama import FakeOllama, Reply
from tests.support.proxy_server import TOKEN, ProxyServer, proxy, short_dir
from tests.support.rehearsal import request
from tests.support.sse import check_order, message_of, parse, text_of, without_pings

BROKEN = {
    "rehearsal": "@rehearse fail 400",
    "fleet": "@rehearse fail 400",
    "node": "@rehearse fail 400",
    "ollama": "hello",
}


@pytest.fixture(scope="module")
def node() -> Any:
    with short_dir() as folder, proxy(folder, name="n1", timing=Timing(first_byte=0.2, ping=0.2)) as server:
        yield server


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    async with FakeOllama().serve() as server:
        yield server


@pytest.fixture(params=["rehearsal", "ollama", "fleet", "node"])
async def backend(request: pytest.FixtureRequest, node: ProxyServer, ollama: FakeOllama) -> AsyncIterator[Backend]:
    kind = request.param
    nodes = tuple(NodeConfig(id, node.upstream_url, TOKEN) for id in ("n1", "n2"))
    url = ollama.url if kind == "ollama" else node.upstream_url
    found = open_backend(BackendConfig(kind, url=url, token=TOKEN, node_id="n1"), Timing(), nodes)
    await found.start()
    try:
        async with asyncio.timeout(20):
            while found.health().state != "ok":  # noqa: ASYNC110 - the seam has no event for it
                await asyncio.sleep(0.02)
        yield found
    finally:
        await found.aclose()


def call_of(backend: Backend, body: dict[str, Any], session: str | None = None) -> Call:
    writer = EventWriter("the model", translates=backend.translates)
    return Call(body, orjson.dumps(body), writer, session=session)


async def whole(backend: Backend, body: dict[str, Any]) -> tuple[Call, bytes]:
    call = call_of(backend, body)
    return call, b"".join([frames async for frames in backend.generate(call)])


async def test_an_answer_is_one_well_formed_stream_and_its_model_is_named(backend: Backend) -> None:
    for streaming in (True, False):
        call, frames = await whole(backend, request("hello", stream=streaming, max_tokens=50))
        events = parse(frames)
        check_order(events)
        assert text_of(message_of(without_pings(events)))
        model = backend.model()
        assert model is not None
        assert call.served == model.identity


async def test_the_model_and_its_window_are_known_from_memory(backend: Backend) -> None:
    model = backend.model()
    assert model is not None
    assert model.context > 0
    assert model.max_output > 0
    assert backend.health().state == "ok"


async def test_tokens_are_estimated_at_once_and_counted_on_demand(backend: Backend) -> None:
    short, long = request("hello"), request("hello " * 500)
    assert 0 <= backend.estimate(short) < backend.estimate(long)
    counted = [await backend.count_tokens(body) for body in (short, long)]
    assert 0 < counted[0][0] < counted[1][0]


async def test_a_request_is_never_changed(backend: Backend) -> None:
    body = request("hello", system="be brief", tools=[{"name": "Bash", "input_schema": {"type": "object"}}])
    before = orjson.dumps(body)
    backend.estimate(body)
    await backend.count_tokens(body)
    await whole(backend, body)
    assert orjson.dumps(body) == before


async def test_a_failure_before_the_first_frame_has_its_status(backend: Backend, ollama: FakeOllama) -> None:
    ollama.reply = Reply([b'{"error": "no"}'], status=400)
    with pytest.raises(ApiError) as failure:
        await whole(backend, request(BROKEN.get(backend.kind, "")))
    assert failure.value.status == 400


async def test_many_at_once_and_one_that_leaves(backend: Backend) -> None:
    async def first_frame_only() -> None:
        async with aclosing(backend.generate(call_of(backend, request("leaves early")))) as frames:  # type: ignore[type-var]
            async for _ in frames:
                return

    results = await asyncio.gather(first_frame_only(), *(whole(backend, request(f"number {n}")) for n in range(8)))
    for _, frames in results[1:]:
        check_order(parse(frames))


async def test_prefix_reuse_is_totalled(backend: Backend) -> None:
    await whole(backend, request("hello"))
    reuse = backend.reuse
    assert 0 <= reuse.reused_tokens <= reuse.prompt_tokens


async def test_closing_twice_over_a_start_leaves_nothing_behind(node: ProxyServer) -> None:
    before = len(asyncio.all_tasks())
    make: Callable[[], Backend] = lambda: open_backend(  # noqa: E731
        BackendConfig("fleet"), Timing(), (NodeConfig("n1", node.upstream_url, TOKEN),)
    )
    async with AsyncExitStack() as stack:
        for _ in range(2):
            backend = make()
            await backend.start()
            stack.push_async_callback(backend.aclose)
    assert len(asyncio.all_tasks()) == before
