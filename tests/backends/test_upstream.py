"""The HTTP client of the server tower over a node's socket that is a symbolic link, as a tunnel swaps it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web

from llmhost.backends.http import Upstream, UpstreamError
from tests.support.proxy_server import short_dir


class Peer:
    """A server on a Unix socket that says its name; `slow` answers wait for `go`, `deaf` ones never come."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.go = asyncio.Event()
        self.connections: set[int] = set()
        self.asked = 0
        self.was_asked = asyncio.Event()

    @asynccontextmanager
    async def serve(self, folder: Path) -> AsyncIterator[Path]:
        application = web.Application()
        routes = {"/name": self._say, "/slow": self._slow, "/deaf": self._deaf}
        application.add_routes([web.post(path, handler) for path, handler in routes.items()])
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        path = folder / f"{self.name}.sock"
        await web.UnixSite(runner, str(path)).start()
        self.runner = runner
        yield path
        await runner.cleanup()

    async def _say(self, request: web.Request) -> web.Response:
        self._note(request)
        return web.json_response(self.name)

    async def _slow(self, request: web.Request) -> web.StreamResponse:
        self._note(request)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'"')
        await self.go.wait()
        await response.write(f'{self.name}"'.encode())
        return response

    async def _deaf(self, request: web.Request) -> web.Response:
        self._note(request)
        if self.name == "old":
            await asyncio.sleep(60)
        return web.json_response(self.name)

    def _note(self, request: web.Request) -> None:
        self.asked += 1
        self.was_asked.set()
        self.connections.add(id(request.transport))


@pytest.fixture
async def peers() -> AsyncIterator[tuple[Peer, Peer, Path]]:
    """Peers `old` and `new`, and a link to the first."""
    old, new = Peer("old"), Peer("new")
    with short_dir() as folder:
        async with old.serve(folder) as first, new.serve(folder):
            link = folder / "link"
            link.symlink_to(first)
            yield old, new, link


def swap(link: Path, name: str = "new") -> None:
    link.with_suffix(".new").symlink_to(link.with_name(f"{name}.sock"))
    os.replace(link.with_suffix(".new"), link)


async def say(upstream: Upstream, path: str = "/name", within: float = 5) -> str:
    return str(await upstream.json("POST", path, {}, timeout=within))


@pytest.fixture
async def upstream(peers: tuple[Peer, Peer, Path]) -> AsyncIterator[Upstream]:
    found = Upstream(f"unix:{peers[2]}", "token")
    yield found
    await found.aclose()


async def test_connections_are_used_again(peers: tuple[Peer, Peer, Path], upstream: Upstream) -> None:
    assert [await say(upstream) for _ in range(5)] == ["old"] * 5
    assert len(peers[0].connections) == 1


async def test_a_swapped_link_is_followed_at_once(peers: tuple[Peer, Peer, Path], upstream: Upstream) -> None:
    assert await say(upstream) == "old"
    swap(peers[2])
    assert await say(upstream) == "new"
    swap(peers[2], "old")
    assert await say(upstream) == "old"


async def test_an_answer_over_the_old_link_goes_on_to_its_end(
    peers: tuple[Peer, Peer, Path], upstream: Upstream
) -> None:
    old, new, link = peers
    async with upstream.stream("POST", "/slow", b"{}") as response:
        pieces = response.chunks()
        assert await anext(pieces) == b'"'
        swap(link)
        assert await say(upstream) == "new"
        old.go.set()
        assert b"".join([piece async for piece in pieces]) == b'old"'
    assert await say(upstream) == "new"
    assert (old.asked, new.asked) == (1, 2)


async def test_a_request_that_waits_on_a_frozen_link_is_sent_again_over_the_new_one(
    peers: tuple[Peer, Peer, Path], upstream: Upstream
) -> None:
    waiting = asyncio.create_task(say(upstream, "/deaf", within=20))
    async with asyncio.timeout(10):
        await peers[0].was_asked.wait()
    swap(peers[2])
    assert await asyncio.wait_for(waiting, 10) == "new"


async def test_a_link_that_is_gone_is_refused_even_where_a_connection_is_pooled(
    peers: tuple[Peer, Peer, Path], upstream: Upstream
) -> None:
    assert await say(upstream) == "old"
    peers[2].unlink()
    with pytest.raises(UpstreamError) as failure:
        await say(upstream)
    assert failure.value.refused
    peers[2].symlink_to(peers[2].with_name("new.sock"))
    assert await say(upstream) == "new"


async def drops_after(folder: Path, answers: int) -> tuple[asyncio.Server, list[int]]:
    """A server each of whose connections gives so many answers, and hangs up on the next request."""
    taken: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(taken)
        taken.append(0)
        with suppress(asyncio.IncompleteReadError):
            for _ in range(answers):
                await reader.readuntil(b"\r\n\r\n{}")
                taken[number] += 1
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull")
            await reader.readuntil(b"\r\n\r\n{}")
        writer.close()

    return await asyncio.start_unix_server(serve, folder / "drops.sock"), taken


async def test_a_pooled_connection_that_died_costs_no_request() -> None:
    with short_dir() as folder:
        server, taken = await drops_after(folder, 1)
        upstream = Upstream(f"unix:{folder}/drops.sock")
        for _ in range(4):
            assert await upstream.json("POST", "/", {}) is None
        assert taken == [1, 1, 1, 1]
        await upstream.aclose()
        server.close()


async def test_a_fresh_connection_that_is_hung_up_on_is_an_error() -> None:
    with short_dir() as folder:
        server, taken = await drops_after(folder, 0)
        upstream = Upstream(f"unix:{folder}/drops.sock")
        with pytest.raises(UpstreamError) as failure:
            await upstream.json("POST", "/", {})
        assert not failure.value.refused
        assert not failure.value.timed_out
        assert len(taken) == 1
        await upstream.aclose()
        server.close()
