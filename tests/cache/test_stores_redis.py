"""What llmhost leaves in a Redis, and what it takes from one that others write to as well."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llmhost.core.server_config import RedisConfig
from tests.support.redis_server import RedisServer, running
from tests.support.stores import becomes, eventually, new_namespace, redis_only, started, store_now, with_failover

# All that llmhost needs to be allowed; MEMORY only weighs the entries for `status`.
ACL = "user llmhost on >pass ~llmhost:* -@all +get +set +unlink +scan +hincrby +hgetall +memory|usage"


def config(server: RedisServer) -> RedisConfig:
    return RedisConfig(url=server.url)


async def test_keys_are_llmhosts_own_and_share_one_hash_slot(any_redis: RedisServer) -> None:
    namespace = new_namespace()
    async with started(redis_only(config(any_redis), namespace)) as store:
        await store_now(store, "abc", b"value")
        store.add_counts({"exact_hits": 1})
        await store.counts()
        found = any_redis.ask("KEYS", f"*{namespace}*")
    assert sorted(set(found) - {f"llmhost:{{{namespace}}}:probe".encode()}) == [
        f"llmhost:{{{namespace}}}:counts".encode(),
        f"llmhost:{{{namespace}}}:exact:abc".encode(),
    ]


async def test_entries_expire_near_their_time_to_live_but_not_together(any_redis: RedisServer) -> None:
    namespace = new_namespace()
    async with started(redis_only(config(any_redis), namespace)) as store:
        for number in range(40):
            store.put(str(number), b"value", 1000)
        await store.flush()
        left = [any_redis.ask("PTTL", f"llmhost:{{{namespace}}}:exact:{number}") for number in range(40)]
    assert all(890_000 < ms <= 1_100_000 for ms in left)
    assert max(left) - min(left) > 20_000


async def test_another_process_finds_what_one_stored(any_redis: RedisServer) -> None:
    namespace = new_namespace()
    async with started(with_failover(config(any_redis), namespace, timeout_s=2)) as first:
        await store_now(first, "key", b"value " * 500)
        first.add_counts({"exact_hits": 3})
    async with started(with_failover(config(any_redis), namespace, timeout_s=2)) as second:
        assert await second.get("key") == b"value " * 500
        second.add_counts({"exact_hits": 1})
        assert await second.counts() == {"exact_hits": 4}


async def test_status_counts_and_weighs_what_is_there(any_redis: RedisServer) -> None:
    async with started(redis_only(config(any_redis))) as store:
        for number in range(30):
            store.put(str(number), bytes(range(256)), 60)
        await store.flush()
        status = await store.status()
        assert (status.state, status.entries) == ("ok", 30)
        assert 30 * 256 < status.memory_bytes < 30 * 600
        await store.clear()
        assert (await store.status()).entries == 0


async def test_clear_deletes_nothing_that_is_not_its_own(any_redis: RedisServer) -> None:
    mine, other = new_namespace(), new_namespace()
    async with (
        started(redis_only(config(any_redis), mine)) as store,
        started(redis_only(config(any_redis), other)) as neighbour,
    ):
        await store_now(neighbour, "key", b"kept")
        any_redis.ask("SET", "llmhost:foreign", "kept")
        any_redis.ask("SET", f"{mine}:exact:key", "kept")
        for number in range(2_500):
            store.put(str(number), b"value", 60)
            if number % 500 == 0:
                await store.flush()
        await store.flush()
        assert await store.clear() == 2_500
        assert await neighbour.get("key") == b"kept"
    assert any_redis.ask("GET", "llmhost:foreign") == b"kept"
    assert any_redis.ask("GET", f"{mine}:exact:key") == b"kept"


@pytest.mark.parametrize("poison", [b"", b"x", b"Zgarbage" * 20, b"\0" * 17])
async def test_what_someone_else_wrote_is_a_miss(any_redis: RedisServer, poison: bytes) -> None:
    namespace = new_namespace()
    async with started(with_failover(config(any_redis), namespace, timeout_s=2)) as store:
        await store.status()
        any_redis.ask("SET", f"llmhost:{{{namespace}}}:exact:key", poison)
        assert await store.get("key") is None
        assert (await store.counts())["store_rejected"] == 1
        assert (await store.status()).state == "ok"


async def test_an_answer_moved_to_another_question_is_a_miss(any_redis: RedisServer) -> None:
    namespace, other = new_namespace(), new_namespace()
    async with started(redis_only(config(any_redis), namespace)) as store:
        await store_now(store, "question", b"answer")
        sealed = any_redis.ask("GET", f"llmhost:{{{namespace}}}:exact:question")
        any_redis.ask("SET", f"llmhost:{{{namespace}}}:exact:another", sealed)
        any_redis.ask("SET", f"llmhost:{{{other}}}:exact:question", sealed)
        assert await store.get("another") is None
        async with started(redis_only(config(any_redis), other)) as elsewhere:
            assert await elsewhere.get("question") is None


async def test_a_gateway_with_another_secret_sees_nothing(any_redis: RedisServer) -> None:
    namespace = new_namespace()
    async with (
        started(redis_only(config(any_redis), namespace, b"one")) as one,
        started(redis_only(config(any_redis), namespace, b"two")) as two,
    ):
        await store_now(one, "key", b"value")
        assert await two.get("key") is None
        assert await one.get("key") == b"value"


async def test_a_key_of_the_wrong_type_is_a_miss_and_no_outage(any_redis: RedisServer) -> None:
    namespace = new_namespace()
    async with started(redis_only(config(any_redis), namespace)) as store:
        any_redis.ask("RPUSH", f"llmhost:{{{namespace}}}:exact:key", "x")
        any_redis.ask("SET", f"llmhost:{{{namespace}}}:counts", "x")
        store.add_counts({"exact_hits": 1})
        assert await store.get("key") is None
        assert (await store.counts())["exact_hits"] == 1
        await store_now(store, "another", b"value")
        assert await store.get("another") == b"value"
        assert (await store.status()).state == "ok"


async def test_a_user_with_the_least_rights_is_enough(any_binary: Path, short_tmp: Path) -> None:
    with running(RedisServer(any_binary, short_tmp, config=("user default off", ACL))) as server:
        url = server.url.replace("unix://", "unix://llmhost:pass@")
        async with started(redis_only(RedisConfig(url=url))) as store:
            await store_now(store, "key", b"value")
            store.add_counts({"exact_hits": 1})
            assert await store.get("key") == b"value"
            assert (await store.counts())["exact_hits"] == 1
            status = await store.status()
            assert (status.state, status.entries) == ("ok", 1)
            assert status.memory_bytes > 0
            assert await store.clear() == 1


async def test_what_may_not_be_looked_up_is_not_known(redis_7_binary: Path, short_tmp: Path) -> None:
    rights = ("user default off", ACL.replace("+memory|usage", ""))
    with running(RedisServer(redis_7_binary, short_tmp, config=rights)) as server:
        async with started(redis_only(RedisConfig(url=server.url.replace("unix://", "unix://llmhost:pass@")))) as store:
            await store_now(store, "key", b"value")
            status = await store.status()
            assert (status.entries, status.memory_bytes) == (1, None)


@pytest.fixture
def cluster(redis_7_binary: Path, short_tmp: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two nodes; the first holds no slot at all."""
    on = ("cluster-enabled yes", "cluster-node-timeout 2000")
    first, second = (RedisServer(redis_7_binary, short_tmp / name, tcp=True, config=on) for name in "ab")
    with running(first), running(second):
        second.ask("CLUSTER ADDSLOTSRANGE", 0, 16383)
        first.ask("CLUSTER MEET", "127.0.0.1", second.port)
        yield first, second


async def test_a_cluster_is_followed_to_the_node_that_holds_the_namespace(
    cluster: tuple[RedisServer, RedisServer],
) -> None:
    first, second = cluster
    async with started(redis_only(config(first))) as store:
        await becomes(store, "ok")
        await store_now(store, "key", b"value")
        assert await store.get("key") == b"value"
        store.add_counts({"exact_hits": 1})
        assert (await store.counts())["exact_hits"] == 1
        assert (await store.status()).entries == 1
    assert second.ask("DBSIZE") >= 2


async def test_counts_that_redis_did_not_get_are_sent_when_it_is_back(redis_7_binary: Path, short_tmp: Path) -> None:
    server = RedisServer(redis_7_binary, short_tmp)
    async with started(with_failover(config(server), timeout_s=2)) as store:
        store.add_counts({"exact_hits": 5})
        assert await store.counts() == {"exact_hits": 5}
        with running(server):
            await becomes(store, "ok")

            async def arrived() -> bool:
                keys = server.ask("KEYS", "*:counts")
                return bool(keys) and server.ask("HGET", keys[0], "exact_hits") == b"5"

            await eventually(arrived, "the counters' arrival")
            assert (await store.counts())["exact_hits"] == 5


async def test_closing_sends_what_is_pending(redis_7: RedisServer) -> None:
    namespace = new_namespace()
    async with started(redis_only(config(redis_7), namespace)) as store:
        store.put("key", b"value", 60)
        store.add_counts({"exact_hits": 2})
    assert redis_7.ask("EXISTS", f"llmhost:{{{namespace}}}:exact:key") == 1
    assert redis_7.ask("HGET", f"llmhost:{{{namespace}}}:counts", "exact_hits") == b"2"
