"""The memory store's bound and clock."""

from __future__ import annotations

import pytest

from llmhost.cache.memory import ENTRY_OVERHEAD, MemoryStore


class Clock:
    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def room_for(entries: int, value_bytes: int) -> int:
    return entries * (ENTRY_OVERHEAD + value_bytes + 1)


async def test_the_least_recently_used_goes_first(clock: Clock) -> None:
    store = MemoryStore(room_for(3, 100), clock)
    for key in "abc":
        store.put(key, bytes(100), 60)
    await store.get("a")
    store.put("d", bytes(100), 60)
    assert [key for key in "abcd" if await store.get(key)] == ["a", "c", "d"]


async def test_memory_never_exceeds_its_bound(clock: Clock) -> None:
    bound = 50_000
    store = MemoryStore(bound, clock)
    for number in range(1_000):
        store.put(f"key-{number}", bytes(number % 3_000), 60)
        assert (await store.status()).memory_bytes <= bound


async def test_a_value_larger_than_the_bound_is_not_kept_and_evicts_nothing(clock: Clock) -> None:
    store = MemoryStore(10_000, clock)
    store.put("small", b"value", 60)
    store.put("huge", bytes(20_000), 60)
    assert await store.get("huge") is None
    assert await store.get("small") == b"value"


async def test_a_value_that_outgrows_the_bound_takes_its_old_one_with_it(clock: Clock) -> None:
    store = MemoryStore(10_000, clock)
    store.put("key", b"old", 60)
    store.put("key", bytes(20_000), 60)
    assert await store.get("key") is None


async def test_expired_entries_are_neither_counted_nor_kept(clock: Clock) -> None:
    store = MemoryStore(10_000_000, clock)
    for number in range(10):
        store.put(f"key-{number}", b"value", 60)
    clock.time += 30
    store.put("later", b"value", 60)
    clock.time += 31
    status = await store.status()
    assert status.entries == 1
    assert status.memory_bytes < 2 * room_for(1, 10)
    assert await store.get("key-1") is None


async def test_a_put_starts_the_time_to_live_anew(clock: Clock) -> None:
    store = MemoryStore(10_000, clock)
    store.put("key", b"value", 60)
    clock.time += 50
    store.put("key", b"value", 60)
    clock.time += 50
    assert await store.get("key") == b"value"


async def test_reading_does_not_prolong_life(clock: Clock) -> None:
    store = MemoryStore(10_000, clock)
    store.put("key", b"value", 60)
    clock.time += 59
    assert await store.get("key") == b"value"
    clock.time += 1
    assert await store.get("key") is None
