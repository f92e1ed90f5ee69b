"""Cache stores opened for a test, with every way to wait for what they do in the background."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from llmhost.cache.base import CacheStore
from llmhost.cache.factory import open_store
from llmhost.cache.failover import FailoverStore
from llmhost.cache.redis_address import redis_address
from llmhost.cache.redis_store import RedisStore
from llmhost.core.server_config import CacheConfig, RedisConfig

SECRET = b"a secret of this test run"
# The budget of one operation is 50 ms. Nothing here measures it: a test only has to tell it from a request that hangs, on a machine
# that does other things too.
TIMEOUT_S = 0.05
NOT_HANGING_S = 1.0
# Long enough for an answer on a busy machine, for tests about something else than slowness.
PATIENT_S = 2.0

S = TypeVar("S", bound=CacheStore)

_numbers = itertools.count()


def new_namespace() -> str:
    return f"test-{next(_numbers)}"


def redis_only(
    redis: RedisConfig, namespace: str | None = None, secret: bytes = SECRET, timeout_s: float = PATIENT_S
) -> RedisStore:
    return RedisStore(redis_address(redis), namespace or new_namespace(), secret, timeout_s)


def with_failover(redis: RedisConfig, namespace: str | None = None, timeout_s: float = TIMEOUT_S) -> FailoverStore:
    store = open_store(CacheConfig(redis=redis, namespace=namespace or new_namespace(), timeout_s=timeout_s), SECRET)
    assert isinstance(store, FailoverStore)
    return store


@contextlib.asynccontextmanager
async def started(store: S) -> AsyncIterator[S]:
    await store.start()
    try:
        yield store
    finally:
        await store.aclose()


async def store_now(store: CacheStore, key: str, value: bytes, ttl_s: float = 60) -> None:
    store.put(key, value, ttl_s)
    await store.flush()


async def eventually(check: Callable[[], Awaitable[bool]], what: str, limit_s: float = 15) -> None:
    deadline = time.monotonic() + limit_s
    while not await check():
        assert time.monotonic() < deadline, f"{what} did not come true within {limit_s} s"
        await asyncio.sleep(0.02)


async def becomes(store: CacheStore, state: str) -> str:
    """Wait until the store says it is in this state; its detail then."""

    async def in_state() -> bool:
        return (await store.status()).state == state

    await eventually(in_state, f"state {state}")
    return (await store.status()).detail


async def quick_get(store: CacheStore, key: str) -> bytes | None:
    """`get`, which must not hang whatever happened to Redis."""
    async with asyncio.timeout(NOT_HANGING_S):
        return await store.get(key)
