"""What one `get` and one `put` of a cache store cost, per store: `python -m tests.bench.bench_store [FLAVOUR …]`.

"alone" is one request at a time, as a user waits; "20 at once" is a busy gateway, where CPU per get decides how many hits a core can serve.
The library's pooled client (redis-py alone) stands beside it for comparison. Values are 2 KB of text-like bytes, the loop is uvloop.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import redis.asyncio
import uvloop

from llmhost.cache.base import CacheStore
from llmhost.cache.factory import open_store
from llmhost.core.server_config import CacheConfig, RedisConfig
from tests.support.redis_server import RedisServer, find_binary, running

ROUNDS = 4_000
KEYS = [f"{number:032x}" for number in range(64)]
WORDS = ("cache", "token", "stream", "prompt", "answer", "model", "gateway", "node", "tool", "result")
Get = Callable[[str], Awaitable[object]]


def payload(size: int) -> bytes:
    generator = random.Random(size)
    return " ".join(generator.choice(WORDS) + str(generator.randrange(100)) for _ in range(size // 8)).encode()


async def time_gets(get: Get, at_once: int) -> tuple[float, float]:
    """Median microseconds per get, and CPU microseconds of this process per get."""
    times: list[float] = []

    async def worker() -> None:
        for number in range(ROUNDS // at_once):
            started = time.perf_counter()
            await get(KEYS[number % len(KEYS)])
            times.append(time.perf_counter() - started)

    before = time.process_time()
    await asyncio.gather(*(worker() for _ in range(at_once)))
    return statistics.median(times) * 1e6, (time.process_time() - before) / len(times) * 1e6


async def time_puts(store: CacheStore) -> tuple[float, float]:
    """Median microseconds a caller spends in `put`, and CPU microseconds per put until all is stored."""
    value, times = payload(2048), []
    before = time.process_time()
    for number in range(800):
        started = time.perf_counter()
        store.put(KEYS[number % len(KEYS)] + str(number), value, 60)
        times.append(time.perf_counter() - started)
    await store.flush()
    return statistics.median(times) * 1e6, (time.process_time() - before) / len(times) * 1e6


async def report(name: str, get: Get) -> None:
    await time_gets(get, 20)
    alone, alone_cpu = await time_gets(get, 1)
    busy, busy_cpu = await time_gets(get, 20)
    print(
        f"{name:24} get alone {alone:6.1f} µs (CPU {alone_cpu:5.1f})   20 at once {busy:7.1f} µs (CPU {busy_cpu:5.1f})"
    )


@contextlib.asynccontextmanager
async def opened(config: CacheConfig) -> AsyncIterator[CacheStore]:
    store = open_store(config, b"benchmark")
    await store.start()
    await store.status()
    for key in KEYS:
        store.put(key, payload(2048), 600)
    await store.flush()
    yield store
    await store.aclose()


async def measure_store(name: str, config: CacheConfig) -> None:
    async with opened(config) as store:
        assert await store.get(KEYS[0]) == payload(2048)
        await report(name, store.get)
        call, whole = await time_puts(store)
        print(f"{name:24} put call  {call:6.1f} µs, stored for {whole:5.1f} µs of CPU")


async def measure_library(name: str, url: str) -> None:
    client = redis.asyncio.Redis.from_url(url, protocol=2)
    for key in KEYS:
        await client.set(key, payload(2048))
    await report(name, client.get)
    await client.aclose()


def servers(flavours: list[str]) -> Iterator[tuple[str, RedisServer]]:
    for flavour in flavours:
        binary = find_binary(flavour)
        if binary is None:
            print(f"{flavour}: not installed")
            continue
        with (
            tempfile.TemporaryDirectory(prefix="lh-") as folder,
            running(RedisServer(binary, Path(folder), tcp=True)) as server,
        ):
            yield flavour, server


async def main(flavours: list[str]) -> None:
    await measure_store("memory", CacheConfig())
    for flavour, server in servers(flavours):
        await measure_store(flavour, CacheConfig(redis=RedisConfig(url=server.url)))
        await measure_library(f"{flavour}, redis-py alone", server.url)


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1:] or ["redis-7", "redis-8.2", "valkey"]))
