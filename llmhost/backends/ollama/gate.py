"""Who steps back when the engine is busy.

Ollama serves its queue first come, first served: a session title would hold up the main loop. So requests without tools (titles,
summaries) wait while one with tools (the main loop, its subagents) is at work, but not for ever. The main loop never waits here, and
without it nobody does: how many requests run at once is Ollama's own business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

PATIENCE_S = 30.0


class Gate:
    """`patience_s` is the longest that side traffic steps back."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience = patience_s
        self._at_work = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    @asynccontextmanager
    async def passing(self, *, main: bool) -> AsyncIterator[None]:
        """Runs the block, at once or when the main loop pauses."""
        if not main:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await self._quiet.wait()
            yield
            return
        self._at_work += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._at_work -= 1
            if not self._at_work:
                self._quiet.set()
