"""A Redis in every kind of trouble: requests go on, `status` tells, and it mends itself.

Each fault is real: servers that are killed, stopped, full, read-only or not a Redis at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from llmhost.cache.failover import FailoverStore
from llmhost.core.server_config import RedisConfig
from tests.support.redis_server import RedisServer, free_port, running
from tests.support.stores import (
    becomes,
    eventually,
    new_namespace,
    quick_get,
    redis_only,
    started,
    store_now,
    with_failover,
)


async def answers_from_memory(store: FailoverStore, key: str = "key") -> None:
    """The store goes on without Redis: what this process puts, it gets."""
    store.put(key, b"value of " + key.encode(), 60)
    assert await quick_get(store, key) == b"value of " + key.encode()
    assert await quick_get(store, "never put") is None


async def test_down_at_start_and_up_later(any_binary: Path, short_tmp: Path) -> None:
    server = RedisServer(any_binary, short_tmp)
    async with started(with_failover(RedisConfig(url=server.url))) as store:
        await answers_from_memory(store)
        assert "socket" in await becomes(store, "degraded")
        with running(server):
            await becomes(store, "ok")
            await store_now(store, "later", b"value")
            assert await quick_get(store, "later") == b"value"
            assert server.ask("EXISTS", server.ask("KEYS", "*exact:later")[0]) == 1
            assert await quick_get(store, "key") == b"value of key"


async def test_killed_and_restarted_without_its_data(any_binary: Path, short_tmp: Path) -> None:
    server = RedisServer(any_binary, short_tmp)
    with running(server):
        async with started(with_failover(RedisConfig(url=server.url))) as store:
            await store_now(store, "before", b"value")
            await becomes(store, "ok")
            server.stop()
            assert await quick_get(store, "before") == b"value"
            await becomes(store, "degraded")
            await answers_from_memory(store, "during")
            server.start()
            await becomes(store, "ok")
            assert await quick_get(store, "before") == b"value"
            assert await quick_get(store, "during") == b"value of during"
            await store.flush()
            assert len(server.ask("KEYS", "*:exact:*")) == 2


async def test_killed_under_load_and_nobody_notices(any_binary: Path, short_tmp: Path) -> None:
    server = RedisServer(any_binary, short_tmp)
    with running(server):
        async with started(with_failover(RedisConfig(url=server.url))) as store:
            await store_now(store, "key", b"value")

            async def client() -> list[bytes | None]:
                return [await quick_get(store, "key") for _ in range(200)]

            clients = [asyncio.create_task(client()) for _ in range(10)]
            await asyncio.sleep(0)
            server.stop()
            assert {value for values in await asyncio.gather(*clients) for value in values} == {b"value"}


async def test_stopped_in_its_tracks(any_binary: Path, short_tmp: Path) -> None:
    server = RedisServer(any_binary, short_tmp)
    with running(server):
        async with started(with_failover(RedisConfig(url=server.url))) as store:
            await store_now(store, "key", b"value")
            await becomes(store, "ok")
            server.pause()
            assert await quick_get(store, "key") == b"value"
            assert "50 ms" in (await store.status()).detail
            async with asyncio.timeout(1):  # 100 requests pay for one time-out together, not for one each
                for _ in range(100):
                    assert await store.get("key") == b"value"
            server.resume()
            await becomes(store, "ok")
            assert await quick_get(store, "key") == b"value"


async def test_many_requests_at_the_moment_it_stops(redis_7_binary: Path, short_tmp: Path) -> None:
    with running(RedisServer(redis_7_binary, short_tmp)) as server:
        async with started(with_failover(RedisConfig(url=server.url))) as store:
            await store_now(store, "key", b"value")
            server.pause()
            async with asyncio.timeout(2):
                assert set(await asyncio.gather(*(store.get("key") for _ in range(1_000)))) == {b"value"}
            server.resume()


async def test_a_large_answer_to_a_stopped_redis_holds_nobody_up(redis_7_binary: Path, short_tmp: Path) -> None:
    with running(RedisServer(redis_7_binary, short_tmp)) as server:
        async with started(with_failover(RedisConfig(url=server.url))) as store:
            await becomes(store, "ok")
            server.pause()
            store.put("large", bytes(range(256)) * 20_000, 60)
            async with asyncio.timeout(1):
                assert len(await store.get("large") or b"") == 256 * 20_000
            await becomes(store, "degraded")
            server.resume()


async def test_full(any_binary: Path, short_tmp: Path) -> None:
    with running(RedisServer(any_binary, short_tmp, config=("maxmemory-policy noeviction",))) as server:
        async with started(with_failover(RedisConfig(url=server.url))) as store:
            await store_now(store, "before", b"value")
            server.ask("CONFIG", "SET", "maxmemory", "1000")
            await answers_from_memory(store, "refused")
            await store.flush()
            assert "OOM" in await becomes(store, "degraded")
            assert await quick_get(store, "refused") == b"value of refused"
            server.ask("DEL", *server.ask("KEYS", "*:exact:refused") or ["none"])
            server.ask("CONFIG", "SET", "maxmemory", "0")
            await becomes(store, "ok")
            await store_now(store, "after", b"value")
            assert server.ask("KEYS", "*:exact:after")


async def test_reading_goes_on_while_writing_is_refused(redis_7_binary: Path, short_tmp: Path) -> None:
    namespace = new_namespace()
    with running(RedisServer(redis_7_binary, short_tmp, config=("maxmemory-policy noeviction",))) as server:
        async with started(redis_only(RedisConfig(url=server.url), namespace)) as first:
            await store_now(first, "before", b"value")
        server.ask("CONFIG", "SET", "maxmemory", "1000")
        async with started(with_failover(RedisConfig(url=server.url), namespace)) as second:
            assert await quick_get(second, "before") == b"value"
            assert "OOM" in await becomes(second, "degraded")
            assert await quick_get(second, "before") == b"value"


async def test_read_only_replica(any_binary: Path, short_tmp: Path) -> None:
    config = (f"replicaof 127.0.0.1 {free_port()}",)
    with running(RedisServer(any_binary, short_tmp, config=config)) as server:
        async with started(with_failover(RedisConfig(url=server.url))) as store:
            await answers_from_memory(store)
            store.add_counts({"exact_hits": 2})
            assert "READONLY" in await becomes(store, "degraded")
            assert await quick_get(store, "key") == b"value of key"
            server.ask("REPLICAOF", "NO", "ONE")
            await becomes(store, "ok")
            await store_now(store, "after", b"value")
            assert server.ask("KEYS", "*:exact:after")

            async def counted() -> bool:
                keys = server.ask("KEYS", "*:counts")
                return bool(keys) and server.ask("HGET", keys[0], "exact_hits") == b"2"

            await eventually(counted, "the counters' arrival")


@pytest.mark.parametrize(
    ("login", "code"), [("", "NOAUTH"), (":wrong-secret@", "WRONGPASS"), ("nobody:wrong-secret@", "WRONGPASS")]
)
async def test_wrong_credentials(
    any_binary: Path, short_tmp: Path, caplog: pytest.LogCaptureFixture, login: str, code: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with running(RedisServer(any_binary, short_tmp, password="right-secret")) as server:
        async with started(with_failover(RedisConfig(url=f"unix://{login}{server.socket}"))) as store:
            await answers_from_memory(store)
            detail = await becomes(store, "degraded")
            assert code in detail
        async with started(with_failover(RedisConfig(url=server.url))) as store:
            await becomes(store, "ok")
    shown = caplog.text + detail
    assert "secret" not in shown
    assert "nobody" not in shown


async def test_a_user_who_may_only_read(any_binary: Path, short_tmp: Path) -> None:
    acl = "user reader on >pass ~llmhost:* -@all +get"
    with running(RedisServer(any_binary, short_tmp, config=(acl,))) as server:
        async with started(with_failover(RedisConfig(url=f"unix://reader:pass@{server.socket}"))) as store:
            await answers_from_memory(store)
            assert "NOPERM" in await becomes(store, "degraded")
            assert await quick_get(store, "key") == b"value of key"


async def test_a_user_without_our_keys(any_binary: Path, short_tmp: Path) -> None:
    acl = "user stranger on >pass ~other:* +@all"
    with running(RedisServer(any_binary, short_tmp, config=(acl,))) as server:
        async with started(with_failover(RedisConfig(url=f"unix://stranger:pass@{server.socket}"))) as store:
            await answers_from_memory(store)
            assert "NOPERM" in await becomes(store, "degraded")


async def test_tls_with_a_ca_of_its_own(redis_7_binary: Path, short_tmp: Path, certificates: Path) -> None:
    with running(RedisServer(redis_7_binary, short_tmp, tls=certificates, password="secret")) as server:
        async with started(with_failover(RedisConfig(url=server.url), timeout_s=1)) as store:
            await becomes(store, "ok")
            await store_now(store, "key", b"value " * 10_000)
            assert await quick_get(store, "key") == b"value " * 10_000
            server.stop()
            assert await quick_get(store, "key") == b"value " * 10_000


async def test_tls_by_parts_with_the_ca_from_the_environment(
    redis_7_binary: Path, short_tmp: Path, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates / "ca.crt"))
    with running(RedisServer(redis_7_binary, short_tmp, tls=certificates, password="secret")) as server:
        config = RedisConfig(host="localhost", port=server.port, password="secret", tls=True)
        async with started(with_failover(config, timeout_s=1)) as store:
            await becomes(store, "ok")


async def test_tls_with_an_unknown_ca(redis_7_binary: Path, short_tmp: Path, certificates: Path) -> None:
    with running(RedisServer(redis_7_binary, short_tmp, tls=certificates)) as server:
        async with started(with_failover(RedisConfig(url=f"rediss://127.0.0.1:{server.port}"))) as store:
            await answers_from_memory(store)
            await eventually(lambda: detail_has(store, "certificate"), "the reason")


async def test_plain_text_to_a_tls_server(redis_7_binary: Path, short_tmp: Path, certificates: Path) -> None:
    with running(RedisServer(redis_7_binary, short_tmp, tls=certificates)) as server:
        async with started(with_failover(RedisConfig(url=f"redis://127.0.0.1:{server.port}"))) as store:
            await answers_from_memory(store)
            await becomes(store, "degraded")


async def test_tls_to_a_plain_server_never_falls_back(redis_7_binary: Path, short_tmp: Path) -> None:
    with running(RedisServer(redis_7_binary, short_tmp, tcp=True)) as server:
        async with started(with_failover(RedisConfig(host="127.0.0.1", port=server.port, tls=True))) as store:
            await answers_from_memory(store)
            await becomes(store, "degraded")
            await store.flush()
            assert server.ask("DBSIZE") == 0


Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def says_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def says(reply: bytes) -> Peer:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(reply)
            await writer.drain()

    return talk


def greets(greeting: bytes) -> Peer:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await reader.read()

    return talk


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)


NO_REDIS: dict[str, Peer] = {
    "silent": says_nothing,
    "hangs up": hangs_up,
    "web server": says(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"),
    "mail server": greets(b"220 mail ESMTP\r\n"),
    "bad length": says(b"$many\r\n"),
    "endless promise": says(b"$99999999\r\nabc"),
    "deep nesting": says(b"*1\r\n" * 5_000),
    "no line end": says(b"+" + b"x" * 200_000),
    "too many replies": says(b"$-1\r\n" * 50),
    "wrong kind of reply": says(b"*0\r\n"),
    "numbers": says(b":1\r\n"),
    "binary": says(bytes(range(256))),
}


@contextlib.asynccontextmanager
async def listening(peer: Peer) -> AsyncIterator[int]:
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(OSError):
            await peer(reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@pytest.mark.parametrize("kind", list(NO_REDIS))
@pytest.mark.parametrize("login", ["", "user:secret@"])
async def test_something_that_is_no_redis(kind: str, login: str) -> None:
    async with (
        listening(NO_REDIS[kind]) as port,
        started(with_failover(RedisConfig(url=f"redis://{login}127.0.0.1:{port}"))) as store,
    ):
        await answers_from_memory(store)
        store.add_counts({"exact_hits": 1})
        assert (await store.counts())["exact_hits"] == 1
        assert (await store.status()).kind == "redis"
        assert await quick_get(store, "key") == b"value of key"
        assert "secret" not in (await store.status()).detail


def distant(server: RedisServer, one_way_s: float) -> Peer:
    """The way to a server that is far off: every piece arrives that much later, none waits for another."""

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        far_reader, far_writer = await asyncio.open_unix_connection(str(server.socket))

        async def carry(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                loop.call_later(one_way_s, target.write, data)

        back = asyncio.create_task(carry(far_reader, writer))
        try:
            await carry(reader, far_writer)
        finally:
            back.cancel()
            far_writer.close()

    return relay


async def test_a_distant_redis_whose_connection_takes_longer_than_a_request_may(
    redis_7_binary: Path, short_tmp: Path
) -> None:
    with running(RedisServer(redis_7_binary, short_tmp, password="secret")) as server:
        async with (
            listening(distant(server, 0.1)) as port,
            started(with_failover(RedisConfig(url=f"redis://:secret@127.0.0.1:{port}"), timeout_s=0.35)) as store,
        ):
            await becomes(store, "ok")
            await store_now(store, "key", b"value")
            assert await quick_get(store, "key") == b"value"
            assert (await store.status()).state == "ok"


async def test_a_redis_too_distant_for_the_time_out_is_not_waited_for(redis_7_binary: Path, short_tmp: Path) -> None:
    with running(RedisServer(redis_7_binary, short_tmp)) as server:
        async with (
            listening(distant(server, 0.1)) as port,
            started(with_failover(RedisConfig(url=f"redis://127.0.0.1:{port}"))) as store,
        ):
            await answers_from_memory(store)
            await eventually(lambda: detail_has(store, "no answer from Redis within 50 ms"), "the reason")
            assert await quick_get(store, "key") == b"value of key"


async def test_what_was_cleared_while_redis_was_away_does_not_come_back(any_binary: Path, short_tmp: Path) -> None:
    server = RedisServer(any_binary, short_tmp)
    with running(server):
        async with started(with_failover(RedisConfig(url=server.url))) as store:
            await store_now(store, "key", b"value")
            await becomes(store, "ok")
            server.pause()
            assert await store.clear() == 1
            server.resume()
            await becomes(store, "ok")
            assert await quick_get(store, "key") is None
            assert server.ask("KEYS", "*:exact:*") == []


async def detail_has(store: FailoverStore, text: str) -> bool:
    return text in (await store.status()).detail
