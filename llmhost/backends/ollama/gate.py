"""Who goes next when the engine is busy.

Ollama serves its queue first come, first served: a session title would hold up the main loop, which then waits for a prefill it has no
use for. Requests with tools (the main loop and its subagents) go before those without, but nobody waits for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PATIENCE_S = 30.0  # after so long a request without tools goes before anyone


class Gate:
    """Lets `slots` requests through at a time."""

    def __init__(self, slots: int = 1, patience_s: float = PATIENCE_S) -> None:
        self._free = max(1, slots)
        self._patience = patience_s
        self._main: deque[asyncio.Future[None]] = deque()
        self._side: deque[tuple[float, asyncio.Future[None]]] = deque()

    @property
    def waiting(self) -> int:
        return len(self._main) + len(self._side)

    @asynccontextmanager
    async def slot(self, *, main: bool) -> AsyncIterator[None]:
        """Holds one slot while the block runs; waits for it first."""
        await self._enter(main)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, main: bool) -> None:
        if self._free and not self.waiting:
            self._free -= 1
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        entry = (loop.time(), turn)
        self._main.append(turn) if main else self._side.append(entry)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()  # the slot was given to us in the very moment we stopped waiting
            elif main:
                self._main.remove(turn)
            else:
                self._side.remove(entry)
            raise

    def _leave(self) -> None:
        turn = self._next()
        if turn is None:
            self._free += 1
        else:
            turn.set_result(None)

    def _next(self) -> asyncio.Future[None] | None:
        overdue = self._side and asyncio.get_running_loop().time() - self._side[0][0] > self._patience
        if self._side and (overdue or not self._main):
            return self._side.popleft()[1]
        return self._main.popleft() if self._main else None
