"""A server that speaks Ollama's API just far enough to misbehave: for answers a real Ollama gives only when something is broken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Reply:
    """What `/api/chat` answers: pieces of the body, written one by one. `breaks_off` ends the connection in the middle of the body."""

    pieces: Sequence[bytes] = ()
    status: int = 200
    breaks_off: bool = False


def line(content: str = "", **fields: Any) -> bytes:
    """One line of a streamed answer."""
    event = {"model": "fake", "message": {"role": "assistant", "content": content}, "done": False}
    return json.dumps(event | fields, separators=(",", ":")).encode() + b"\n"


def last(prompt_eval_count: int = 20, eval_count: int = 3, **fields: Any) -> bytes:
    """The line that says done."""
    counts = {"prompt_eval_count": prompt_eval_count, "eval_count": eval_count}
    return line(done=True, done_reason="stop", **{**counts, **fields})


@dataclass
class FakeOllama:
    """`reply` is what the next chats get; `asked` are the bodies of those that came; `show`, `tags` and `running` what the other routes
    tell. While `awake` is cleared it is as good as frozen. With `wedges` it
    hangs, as 0.24.0 may, from a chat whose client left until the model is unloaded."""

    reply: Reply = field(default_factory=lambda: Reply([line("hi"), last()]))
    asked: list[dict[str, Any]] = field(default_factory=list)
    show: dict[str, Any] = field(default_factory=lambda: {"capabilities": ["completion", "tools"]})
    running: dict[str, Any] = field(
        default_factory=lambda: {"name": "fake:latest", "digest": "d1", "context_length": 1000}
    )
    load_status: int = 200
    tags: Any = None
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    wedges: bool = False
    slot: asyncio.Event = field(default_factory=asyncio.Event)
    unloaded: int = 0
    url: str = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeOllama]:
        self.awake.set()
        self.slot.set()
        application = web.Application()
        application.add_routes(
            [
                web.get("/api/ps", self._ps),
                web.get("/api/tags", self._tags),
                web.get("/api/version", self._version),
                web.post("/api/show", self._show),
                web.post("/api/chat", self._chat),
                web.post("/api/generate", self._unload),
            ]
        )
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _ps(self, _: web.Request) -> web.Response:
        await self.awake.wait()
        return web.json_response({"models": [self.running]})

    async def _tags(self, _: web.Request) -> web.Response:
        known = {"models": [{"name": "fake:latest", "digest": self.running["digest"]}]}
        return web.json_response(known if self.tags is None else self.tags)

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "0.99.0"})

    async def _show(self, _: web.Request) -> web.Response:
        return web.json_response(self.show)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not body["messages"]:
            return web.json_response(
                {"done": True} if self.load_status == 200 else {"error": "no memory"}, status=self.load_status
            )
        await self.slot.wait()
        self.asked.append(body)
        response = web.StreamResponse(status=self.reply.status)
        await response.prepare(request)
        for piece in self.reply.pieces:
            await self.awake.wait()
            await response.write(piece)
            await asyncio.sleep(0)
            if self.wedges:
                await self._until_left()
        if self.reply.breaks_off and request.transport is not None:
            request.transport.abort()
        return response

    async def _until_left(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:  # the server cancels the handler of a client that is gone
            self.wedges = False
            self.slot.clear()

    async def _unload(self, request: web.Request) -> web.Response:
        assert (await request.json())["keep_alive"] == 0
        self.unloaded += 1
        self.slot.set()
        return web.json_response({"done": True, "done_reason": "unload"})
