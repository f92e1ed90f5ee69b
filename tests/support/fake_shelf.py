"""An Ollama with several models that misbehave as `FakeOllama` does, each with a slot of its own, and room for so many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.support.fake_ollama import FakeOllama, Reply, last, line


def fake_model(name: str, said: str) -> FakeOllama:
    """One that always says the same."""
    fake = FakeOllama(reply=Reply([line(said), last()]))
    fake.running = {"name": name, "digest": f"digest of {name}", "context_length": 1000}
    fake.show = {"capabilities": ["completion", "tools"], "modelfile": f"FROM /blobs/{name}\n"}
    fake.awake.set()
    return fake


@dataclass
class FakeShelf:
    """`models` by full name. Loading one of more than `room` waits, like the real one, until nobody uses those that have to go."""

    models: dict[str, FakeOllama]
    room: int = 1
    loads: list[str] = field(default_factory=list)
    url: str = ""

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[FakeShelf]:
        application = web.Application()
        application.add_routes(
            [
                web.get("/api/ps", self._ps),
                web.get("/api/tags", self._tags),
                web.get("/api/version", self._version),
                web.post("/api/{route}", self._post),
            ]
        )
        runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _ps(self, _: web.Request) -> web.Response:
        return web.json_response({"models": [one.running for one in self.models.values() if one.loaded]})

    async def _tags(self, _: web.Request) -> web.Response:
        known = [{"name": name, "digest": one.running["digest"]} for name, one in self.models.items()]
        return web.json_response({"models": known})

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "0.99.0"})

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        name = str(body["model"])
        one = self.models[name if ":" in name else f"{name}:latest"]
        route = request.match_info["route"]
        if route == "show":
            return web.json_response(one.show)
        if not one.loaded and body.get("keep_alive") != 0:
            await self._make_room(one)
        return await (one._chat(request) if route == "chat" else one._generate(request))

    async def _make_room(self, wanted: FakeOllama) -> None:
        self.loads.append(wanted.running["name"])
        loaded = [one for one in self.models.values() if one.loaded]
        for one in loaded[: max(0, len(loaded) + 1 - self.room)]:
            one.expiring = True
            one._expire()
            while one.loaded:  # noqa: ASYNC110 - as Ollama's scheduler does
                await asyncio.sleep(0.01)
        wanted.loaded = True
