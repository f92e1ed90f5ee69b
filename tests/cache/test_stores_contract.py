"""What holds for every store, wherever it keeps things."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from llmhost.cache.base import CacheStore
from llmhost.cache.memory import MemoryStore
from llmhost.core.server_config import RedisConfig
from tests.support.redis_server import RedisServer
from tests.support.stores import PATIENT_S, eventually, redis_only, started, store_now, with_failover


class Contract:
    async def test_a_value_comes_back_as_it_was_put(self, store: CacheStore) -> None:
        for value in (b"", b"\0\r\n$-1\r\n", bytes(range(256)) * 40, b"text " * 5_000):
            await store_now(store, "key", value)
            assert await store.get("key") == value

    async def test_what_was_never_put_is_none(self, store: CacheStore) -> None:
        await store_now(store, "key", b"value")
        assert await store.get("another") is None

    async def test_a_value_can_be_read_before_it_is_flushed(self, store: CacheStore) -> None:
        store.put("key", b"value", 60)
        assert await store.get("key") == b"value"

    async def test_a_second_put_replaces_the_first(self, store: CacheStore) -> None:
        store.put("key", b"old", 60)
        store.put("key", b"new", 60)
        await store.flush()
        assert await store.get("key") == b"new"

    async def test_many_values_at_once(self, store: CacheStore) -> None:
        values = {f"key-{number}": b"%d" % number * 50 for number in range(300)}
        for key, value in values.items():
            store.put(key, value, 60)
        await store.flush()
        found = await asyncio.gather(*(store.get(key) for key in values))
        assert dict(zip(values, found, strict=True)) == values

    async def test_a_value_expires(self, store: CacheStore) -> None:
        await store_now(store, "brief", b"value", ttl_s=0.1)
        await store_now(store, "long", b"value", ttl_s=60)

        async def gone() -> bool:
            return await store.get("brief") is None

        await eventually(gone, "expiry")
        assert await store.get("long") == b"value"

    async def test_clear_deletes_everything_and_says_how_much(self, store: CacheStore) -> None:
        for number in range(25):
            store.put(f"key-{number}", b"value", 60)
        await store.flush()
        assert await store.clear() == 25
        assert await store.get("key-3") is None
        assert await store.clear() == 0

    async def test_a_cleared_store_can_be_used_again(self, store: CacheStore) -> None:
        await store.clear()
        await store_now(store, "key", b"value")
        assert await store.get("key") == b"value"

    async def test_counts_add_up(self, store: CacheStore) -> None:
        assert await store.counts() == {}
        store.add_counts({"exact_hits": 2, "saved_tokens": 700})
        store.add_counts({"exact_hits": 1})
        assert await store.counts() == {"exact_hits": 3, "saved_tokens": 700}

    async def test_clear_keeps_the_counts(self, store: CacheStore) -> None:
        store.add_counts({"exact_hits": 2})
        await store.clear()
        assert (await store.counts())["exact_hits"] == 2

    async def test_status_is_of_one_of_the_kinds(self, store: CacheStore) -> None:
        status = await store.status()
        assert status.kind in ("memory", "redis")
        assert status.state in ("ok", "degraded")
        assert bool(status.detail) == (status.state == "degraded")

    async def test_closing_at_once_is_fine(self, store: CacheStore) -> None:
        store.put("key", b"value", 60)


class TestMemory(Contract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[CacheStore]:
        async with started(MemoryStore(10_000_000)) as store:
            yield store


class TestRedis(Contract):
    @pytest.fixture
    async def store(self, any_redis: RedisServer) -> AsyncIterator[CacheStore]:
        async with started(redis_only(RedisConfig(url=any_redis.url))) as store:
            yield store


class TestFailoverOverRedis(Contract):
    @pytest.fixture
    async def store(self, any_redis: RedisServer) -> AsyncIterator[CacheStore]:
        async with started(with_failover(RedisConfig(url=any_redis.url), timeout_s=PATIENT_S)) as store:
            yield store


class TestFailoverOverDeadRedis(Contract):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[CacheStore]:
        async with started(with_failover(RedisConfig(url=f"unix://{tmp_path}/no.sock"))) as store:
            yield store

    async def test_counts_add_up(self, store: CacheStore) -> None:
        """As everywhere, and what Redis did not get is counted beside."""
        store.add_counts({"exact_hits": 2})
        store.add_counts({"exact_hits": 1})
        assert (await store.counts())["exact_hits"] == 3
