"""The store that several gateways can share and that survives restarts: Redis 6 or newer, Valkey, or anything that speaks like them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Coroutine
from typing import Any

from llmhost.cache.base import StoreStatus
from llmhost.cache.redis_address import RedisAddress
from llmhost.cache.redis_errors import RedisTrouble, Refused
from llmhost.cache.redis_keys import Extent, Keys, delete_entries, measure
from llmhost.cache.redis_session import RedisSession
from llmhost.cache.redis_writer import RedisWriter
from llmhost.cache.sealing import Seal

log = logging.getLogger(__name__)

FLUSH_LIMIT_S = 2.0
CLEAR_LIMIT_S = 20.0
REJECTED = "store_rejected"  # the counter of values that were not written by an llmhost with our secret
_OWED_RETRY_S = 1.0
_MEASURING_SHARE = 0.05  # of the time, at most, goes into counting and weighing entries, however often `status` asks


class RedisStore:
    """A `CacheStore` in Redis alone. While Redis is away it answers nothing, at once; see `failover` for the store that goes on.

    `timeout_s` bounds `get`, `counts` and `status`, each in total.
    """

    def __init__(self, address: RedisAddress, namespace: str, secret: bytes, timeout_s: float) -> None:
        self._keys = Keys(namespace)
        self._seal = Seal(secret)
        self._timeout_s = timeout_s
        self._session = RedisSession(address, self._keys.probe, timeout_s)
        self._writer = RedisWriter(self._session, self._keys, self._seal)
        self._extent = Extent()
        self._measured_until = 0.0
        self._measuring: asyncio.Task[None] | None = None
        self._clear_owed = False
        self._background: set[asyncio.Task[None]] = set()

    @property
    def trouble(self) -> str:
        """Why Redis is not all that it should be, in words; empty when it is."""
        if self._clear_owed and self._session.up:
            return "entries that were cleared could not be deleted from Redis yet"
        return self._session.reason or self._writer.trouble

    def may_have_lost(self, stored: float) -> bool:
        """Whether what was put at `stored` (`time.monotonic`) may be missing only because Redis was away since or its data went."""
        return bool(self.trouble) or stored < self._session.up_since

    async def start(self) -> None:
        self._session.start()
        self._writer.start()

    async def aclose(self) -> None:
        await self._writer.aclose(FLUSH_LIMIT_S)
        for task in list(self._background):
            task.cancel()
            await asyncio.wait([task])
        await self._session.aclose()

    async def get(self, key: str) -> bytes | None:
        with contextlib.suppress(RedisTrouble):
            return await self.fetch(key)
        return None

    async def fetch(self, key: str) -> bytes | None:
        """Like `get`, but raises RedisTrouble when Redis did not answer."""
        pending = self._writer.pending(key)
        if pending is not None or self._clear_owed:
            return pending
        name = self._keys.entry(key)
        try:
            sealed = await self._session.read("GET", name)
        except Refused as refusal:
            if refusal.code == "WRONGTYPE":
                self._reject()
                return None
            raise
        if not isinstance(sealed, bytes):
            return None
        value = self._seal.open(name, sealed)
        if value is None:
            self._reject()
        return value

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        self._writer.put(key, value, ttl_s)

    async def flush(self) -> None:
        await self._writer.flush(FLUSH_LIMIT_S)
        self._measured_until = 0.0

    async def clear(self) -> int:
        """What cannot be deleted now is not served any more, and is deleted as soon as Redis lets us."""
        self._writer.discard()
        await self._writer.flush(FLUSH_LIMIT_S)  # a write under way would come after the deletion
        self._clear_owed = True
        deleted = 0
        with contextlib.suppress(TimeoutError, RedisTrouble):
            async with asyncio.timeout(CLEAR_LIMIT_S):
                await self._session.settled(self._timeout_s)
                deleted = await self._delete_owed()
        if self._clear_owed:
            self._in_background(self._clear_later())
        return deleted

    def add_counts(self, counts: dict[str, int]) -> None:
        self._writer.count(counts)

    async def counts(self) -> dict[str, int]:
        """Those in Redis and those not sent yet; while Redis is away, those last seen there and all since."""
        # A task of its own: what it sends must not be cut short by our time-out.
        await asyncio.wait([self._in_background(self._read_counts())], timeout=self._timeout_s)
        return self._writer.totals()

    async def status(self) -> StoreStatus:
        await self._session.settled(self._timeout_s)
        if self._session.up:
            await self._measure_again()
        extent = self._extent if self._session.up else Extent()
        trouble = self.trouble
        return StoreStatus("redis", "degraded" if trouble else "ok", extent.entries, extent.memory_bytes, trouble)

    async def _read_counts(self) -> None:
        with contextlib.suppress(RedisTrouble):
            await self._session.settled(self._timeout_s)
            await self._writer.read_counts()

    async def _measure_again(self) -> None:
        if self._measuring is None and asyncio.get_running_loop().time() >= self._measured_until:
            self._measuring = self._in_background(self._measure())
        if self._measuring is not None:
            await asyncio.wait([self._measuring], timeout=self._timeout_s)

    async def _measure(self) -> None:
        clock = asyncio.get_running_loop().time
        started = clock()
        try:
            self._extent = await measure(self._session, self._keys)
        except RedisTrouble:
            self._extent = Extent()
        finally:
            self._measured_until = clock() + (clock() - started) / _MEASURING_SHARE
            self._measuring = None

    async def _delete_owed(self) -> int:
        deleted = await delete_entries(self._session, self._keys)
        self._clear_owed = False
        self._measured_until = 0.0
        return deleted

    async def _clear_later(self) -> None:
        while self._clear_owed:
            await asyncio.sleep(_OWED_RETRY_S)
            with contextlib.suppress(RedisTrouble):
                await self._delete_owed()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name="redis-store")
        self._background.add(task)  # the event loop alone would let it be collected
        task.add_done_callback(self._background.discard)
        return task

    def _reject(self) -> None:
        self._writer.count({REJECTED: 1})
        log.warning("redis held a value that this llmhost did not write; it is treated as a miss")
