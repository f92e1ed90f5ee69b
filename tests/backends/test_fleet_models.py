"""Which models a gateway knows of, and what it says of one whose nodes cannot be asked now: 404 only where nobody can have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from llmhost.backends.fleet.backend import FleetBackend
from llmhost.core.server_config import NodeConfig, Timing
from llmhost.messages.errors import ApiError
from tests.support.proxy_server import short_dir


def model(name: str) -> dict[str, Any]:
    return {"id": name, "digest": f"digest of {name}", "context": 4096, "max_output": 512}


def status(main: str | None, *others: str) -> dict[str, Any]:
    """What a node tells that serves `main`, and others by name; None = it is just starting."""
    models = [model(name) for name in (main, *others) if name] if main else []
    state = "ok" if main else "starting"
    return {"ready": bool(main), "backend": {"state": state}, "model": model(main) if main else None, "models": models}


class Fleet:
    """A gateway's backend, with nodes whose words the test chooses."""

    def __init__(self, folder: Path, told: dict[str, dict[str, Any]], **more: float) -> None:
        self.told = told
        self.folder = folder
        self.nodes: dict[str, web.AppRunner] = {}
        self.backend = FleetBackend([self.config(id) for id in told], Timing(hold=0.5), **more)

    def config(self, id: str, **more: Any) -> NodeConfig:
        return NodeConfig(id, f"unix:{self.folder}/{id}.sock", "t", **more)

    async def up(self, id: str) -> None:
        application = web.Application()

        async def tell(_: web.Request) -> web.Response:
            return web.json_response(self.told[id])

        application.add_routes([web.get("/internal/status", tell)])
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        await web.UnixSite(runner, f"{self.folder}/{id}.sock").start()
        self.nodes[id] = runner

    async def down(self, id: str) -> None:
        await self.nodes.pop(id).cleanup()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - what a node says is seen at its next look
                await asyncio.sleep(0.02)

    async def until_state(self, id: str, state: str) -> None:
        await self.until(lambda: {one.id: one.state for one in self.backend.nodes()}[id] == state)

    async def sought(self, name: str) -> str | int:
        """The model that is found under a name, or the status of the error; 404 = there is none."""
        try:
            found = self.backend.find(name) or await self.backend.look_up(name)
        except ApiError as error:
            return error.status
        return found.id if found else 404


@asynccontextmanager
async def fleet(told: dict[str, dict[str, Any]], *up: str, **more: float) -> AsyncIterator[Fleet]:
    async with AsyncExitStack() as ending:
        with short_dir() as folder:
            made = Fleet(folder, told, **more)
            for id in up or told:
                await made.up(id)
            await made.backend.start()
            ending.push_async_callback(made.backend.aclose)
            for id in up or told:
                await made.until(lambda id=id: bool(made.backend.find(str((told[id]["model"] or {}).get("id")))))  # type: ignore[misc]
            yield made
            for id in list(made.nodes):
                await made.down(id)


async def test_a_model_of_a_node_that_has_not_answered_yet_may_be_there() -> None:
    async with fleet({"n1": status("a:1b"), "n2": status("a:1b", "b:1b")}, "n1") as made:
        assert await made.sought("b:1b") == 503
        await made.up("n2")
        await made.until_state("n2", "ready")
        assert await made.sought("b:1b") == "b:1b"
        assert await made.sought("c:1b") == 404


async def test_a_model_whose_node_is_lost_for_long_is_unavailable() -> None:
    async with fleet({"n1": status("a:1b"), "n2": status("a:1b", "b:1b")}, forgotten_after_s=0.3) as made:
        await made.down("n2")
        await made.until_state("n2", "unreachable")
        await made.until(lambda: made.backend.find("b:1b") is None)
        with pytest.raises(ApiError, match="n2") as told:
            await made.backend.look_up("b:1b")
        assert told.value.status == 503
        assert "n1" not in told.value.message, "it is well"
        assert await made.sought("c:1b") == 404


async def test_a_node_in_trouble_that_never_said_a_word_is_not_waited_for() -> None:
    async with fleet({"n1": status("a:1b"), "n2": status("a:1b")}, "n1") as made:
        made.backend.set_nodes([made.config("n1"), made.config("n2", trouble=("ssh_auth", "no key fits"))])
        assert await made.sought("b:1b") == 404


async def test_a_node_whose_main_model_is_loaded_anew_still_has_its_others() -> None:
    async with fleet({"n1": status("a:1b", "b:1b")}) as made:
        made.told["n1"] = status(None)
        await made.until_state("n1", "loading")
        assert [one.id for one in made.backend.models()] == ["a:1b", "b:1b"]
        made.told["n1"] = status("a:1b")
        await made.until_state("n1", "ready")
        assert [one.id for one in made.backend.models()] == ["a:1b"]
