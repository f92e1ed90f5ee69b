"""A server that speaks Ollama's API just far enough to misbehave: for answers a real Ollama gives only when something is broken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

Wedge = Literal["left before the headers", "left in the middle", "ended by an error"]


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
    tell. While `awake` is cleared it is as good as frozen.

    Like the real one it has one slot, for which chats queue. The next chat to end as `wedges` says keeps it for good, as 0.24.0 may: until
    the model is unloaded, which happens only once nobody is queueing for it.
    """

    reply: Reply = field(default_factory=lambda: Reply([line("hi"), last()]))
    asked: list[dict[str, Any]] = field(default_factory=list)
    show: dict[str, Any] = field(default_factory=lambda: {"capabilities": ["completion", "tools"]})
    running: dict[str, Any] = field(
        default_factory=lambda: {"name": "fake:latest", "digest": "d1", "context_length": 1000}
    )
    load_status: int = 200
    tags: Any = None
    awake: asyncio.Event = field(default_factory=asyncio.Event)
    wedges: Wedge | None = None
    slot: asyncio.Lock = field(default_factory=asyncio.Lock)
    clients: int = 0
    knocks: int = 0
    loaded: bool = False
    expiring: bool = False
    unloaded: int = 0
    url: str = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeOllama]:
        self.awake.set()
        application = web.Application()
        application.add_routes(
            [
                web.get("/api/ps", self._ps),
                web.get("/api/tags", self._tags),
                web.get("/api/version", self._version),
                web.post("/api/show", self._show),
                web.post("/api/chat", self._chat),
                web.post("/api/generate", self._generate),
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
        return web.json_response({"models": [self.running] if self.loaded else []})

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
            return self._load()
        async with self._slot() as hold:
            self.asked.append(body)
            if self.wedges == "left before the headers":
                await self._until_left(hold)
            response = web.StreamResponse(status=self.reply.status)
            await response.prepare(request)
            for piece in self.reply.pieces:
                await self.awake.wait()
                await response.write(piece)
                await asyncio.sleep(0)
                if self.wedges == "left in the middle":
                    await self._until_left(hold)
            if self.wedges == "ended by an error":
                self._wedge(hold)
            if self.reply.breaks_off and request.transport is not None:
                request.transport.abort()
        return response

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[asyncio.Event]:
        """The slot, once it is free; it is given back unless the event that comes with it is set."""
        hold = asyncio.Event()
        self.clients += 1
        try:
            slot = self.slot
            await slot.acquire()
            try:
                yield hold
            finally:
                if not hold.is_set():
                    slot.release()
        finally:
            self.clients -= 1
            self._expire()

    async def _until_left(self, hold: asyncio.Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:  # the server cancels the handler of a client that is gone
            self._wedge(hold)

    def _wedge(self, hold: asyncio.Event) -> None:
        self.wedges = None
        hold.set()

    def _load(self) -> web.Response:
        if self.load_status != 200:
            return web.json_response({"error": "no memory"}, status=self.load_status)
        self.loaded, self.expiring = True, False
        return web.json_response({"done": True, "done_reason": "load"})

    async def _generate(self, request: web.Request) -> web.Response:
        """An unload, or else a prompt that does not fit: that is found out only by whoever has the slot."""
        body = await request.json()
        if body.get("keep_alive") == 0 and not body.get("prompt"):
            self.expiring = True
            self._expire()
            return web.json_response({"done": True, "done_reason": "unload"})
        assert body["truncate"] is False
        self.knocks += 1
        async with self._slot():
            return web.json_response({"error": "the input length exceeds the context length"}, status=400)

    def _expire(self) -> None:
        if self.expiring and not self.clients:
            self.expiring = self.loaded = False
            self.slot = asyncio.Lock()
            self.unloaded += 1
