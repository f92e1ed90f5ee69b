"""Redis while it answers, this process's memory whenever it does not."""

from __future__ import annotations

import dataclasses
import time

from llmhost.cache.base import StoreStatus
from llmhost.cache.memory import MemoryStore
from llmhost.cache.redis_errors import RedisTrouble
from llmhost.cache.redis_store import RedisStore


class FailoverStore:
    """A `CacheStore` that a Redis cannot bring down.

    Writes go to both. Reads ask Redis; memory answers when Redis failed, or when Redis misses what it may have lost: it takes no writes,
    was away, or came back without its data. Otherwise its word is final, so that what another gateway cleared is gone here too.
    """

    def __init__(self, redis: RedisStore, memory: MemoryStore) -> None:
        self._redis = redis
        self._memory = memory

    async def start(self) -> None:
        await self._redis.start()

    async def aclose(self) -> None:
        await self._redis.aclose()
        await self._memory.aclose()

    async def get(self, key: str) -> bytes | None:
        try:
            value = await self._redis.fetch(key)
        except RedisTrouble:
            return await self._memory.get(key)
        return self._not_lost(key) if value is None else value

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        self._memory.put(key, value, ttl_s)
        self._redis.put(key, value, ttl_s)

    async def flush(self) -> None:
        await self._redis.flush()

    async def clear(self) -> int:
        """Both; the larger number, since most entries are in both."""
        here = await self._memory.clear()
        return max(here, await self._redis.clear())

    def add_counts(self, counts: dict[str, int]) -> None:
        self._redis.add_counts(counts)

    async def counts(self) -> dict[str, int]:
        return await self._redis.counts()

    async def status(self) -> StoreStatus:
        """Of Redis; while it is degraded, `detail` also says what memory holds."""
        status = await self._redis.status()
        if status.state == "ok":
            return status
        here = await self._memory.status()
        return dataclasses.replace(
            status, detail=f"{status.detail}; {here.entries} answers are kept in memory meanwhile"
        )

    def _not_lost(self, key: str) -> bytes | None:
        """What memory still has although Redis does not; Redis gets it again, for the rest of its time."""
        entry = self._memory.find(key)
        if entry is None or not self._redis.may_have_lost(entry.stored):
            return None
        remaining_s = entry.expires - time.monotonic()
        self.put(key, entry.value, remaining_s)
        return entry.value
