"""Who steps back when the engine is busy."""

from __future__ import annotations

import asyncio

from llmhost.backends.ollama.gate import Gate


class Visitors:
    """Tasks that pass a gate and stay until they are told to go."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.inside: list[str] = []
        self._go: dict[str, asyncio.Event] = {}

    async def enter(self, name: str, *, main: bool) -> asyncio.Task[None]:
        self._go[name] = asyncio.Event()
        task = asyncio.create_task(self._visit(name, main))
        await settle()
        return task

    async def leave(self, name: str) -> None:
        self._go[name].set()
        await settle()

    async def _visit(self, name: str, main: bool) -> None:
        async with self.gate.passing(main=main):
            self.inside.append(name)
            try:
                await self._go[name].wait()
            finally:
                self.inside.remove(name)


async def settle() -> None:
    for _ in range(8):
        await asyncio.sleep(0)


async def test_side_traffic_waits_while_the_main_loop_is_at_work() -> None:
    visitors = Visitors(Gate())
    for name, main in [("loop", True), ("title", False), ("agent", True)]:
        await visitors.enter(name, main=main)
    assert visitors.inside == ["loop", "agent"], "the main loop never waits here"
    await visitors.leave("loop")
    assert visitors.inside == ["agent"]
    await visitors.leave("agent")
    assert visitors.inside == ["title"]


async def test_among_itself_side_traffic_does_not_wait() -> None:
    visitors = Visitors(Gate())
    for name in ("title", "summary"):
        await visitors.enter(name, main=False)
    assert visitors.inside == ["title", "summary"]


async def test_nobody_waits_for_ever() -> None:
    visitors = Visitors(Gate(patience_s=0.01))
    await visitors.enter("loop", main=True)
    title = await visitors.enter("title", main=False)
    assert visitors.inside == ["loop"]
    await visitors.leave("title")
    await asyncio.wait_for(title, 5)


async def test_one_who_stops_waiting_leaves_nothing_behind() -> None:
    visitors = Visitors(Gate())
    await visitors.enter("loop", main=True)
    waiting = await visitors.enter("gone", main=False)
    waiting.cancel()
    await settle()
    assert waiting.cancelled()
    await visitors.enter("title", main=False)
    await visitors.leave("loop")
    assert visitors.inside == ["title"]


async def test_a_main_loop_that_is_cancelled_holds_nobody_up() -> None:
    visitors = Visitors(Gate())
    loop = await visitors.enter("loop", main=True)
    await visitors.enter("title", main=False)
    loop.cancel()
    await settle()
    assert visitors.inside == ["title"]
