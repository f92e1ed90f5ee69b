"""How long a request waits for an upstream to begin its answer, where something else may tell sooner that it will not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# The slowest way out of a home that is still of use, 1 Mbit/s: while a request is on its way, a busy link looks like a silent node.
UPLINK_BYTES_S = 125_000


class CalledBack(Exception):
    """The upstream was found silent while the request waited for its answer to begin."""


def upload_s(body: bytes) -> float:
    """Seconds that sending `body` may take at most."""
    return len(body) / UPLINK_BYTES_S


class Waiting:
    """The requests of which nothing has been heard yet."""

    def __init__(self) -> None:
        self._limits: dict[asyncio.Timeout, float] = {}

    @asynccontextmanager
    async def on(self, body: bytes) -> AsyncIterator[None]:
        """The block in which `body` is sent and the beginning of its answer awaited. Raises CalledBack."""
        sent_by = asyncio.get_running_loop().time() + upload_s(body)
        try:
            async with asyncio.timeout(None) as limit:
                self._limits[limit] = sent_by
                try:
                    yield
                finally:
                    self._limits.pop(limit, None)
        except TimeoutError:
            raise CalledBack from None

    def call_back(self) -> None:
        """End the wait of every request that should have been read by now."""
        now = asyncio.get_running_loop().time()
        for limit in [limit for limit, sent_by in self._limits.items() if sent_by <= now]:
            del self._limits[limit]  # one that is ending already must not be told again
            limit.reschedule(now)
