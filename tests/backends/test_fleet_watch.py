"""What the gateway makes of a node that tells something of another shape."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from llmhost.backends.fleet.backend import FleetBackend
from llmhost.core.server_config import NodeConfig, Timing
from tests.support.proxy_server import short_dir

MODEL = {"id": "m", "digest": "d", "context": 4096, "max_output": 512}
GOOD: dict[str, Any] = {"ready": True, "backend": {"state": "ok"}, "model": MODEL, "prefix": {"prompt_tokens": 3}}


@pytest.mark.parametrize(
    "odd",
    [
        [],
        {},
        GOOD | {"backend": None},
        GOOD | {"model": []} | {"ready": None, "backend": {}},
        GOOD | {"model": {"id": "m"}},
        GOOD | {"model": MODEL | {"context": None}},
        GOOD | {"model": MODEL | {"id": 3}},
        GOOD | {"prefix": {"prompt_tokens": "many"}},
    ],
)
async def test_a_node_that_tells_nonsense_is_left_alone_until_it_makes_sense(odd: Any) -> None:
    told = [odd]

    async def status(_: web.Request) -> web.Response:
        return web.json_response(told[0])

    application = web.Application()
    application.add_routes([web.get("/internal/status", status)])
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    with short_dir() as folder:
        await web.UnixSite(runner, f"{folder}/n1.sock").start()
        fleet = FleetBackend([NodeConfig("n1", f"unix:{folder}/n1.sock", "t")], Timing())
        await fleet.start()
        try:
            await until(fleet, "unreachable", "not an llmhost proxy")
            told[0] = GOOD | {"of_a_later_version": 1, "model": MODEL | {"later": 1}}
            await until(fleet, "ready", "")
            assert fleet.reuse.prompt_tokens == 3
        finally:
            await fleet.aclose()
            await runner.cleanup()


async def until(fleet: FleetBackend, state: str, detail: str) -> None:
    for _ in range(1000):
        reading = fleet.nodes()[0]
        if reading.state == state and detail in reading.detail:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"still {reading}")
