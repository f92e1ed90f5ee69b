"""Everything that is written to Redis, in the background: answers from a bounded queue, counters about once a second.

A write that Redis refuses (full, read-only, no permission) stops writing, with a back-off and a probe, while reading goes on.
Answers that cannot be written are dropped and counted; counters are kept until they can be.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from llmhost.cache.redis_errors import RedisTrouble, Refused
from llmhost.cache.redis_keys import Keys
from llmhost.cache.redis_link import Command, Reply
from llmhost.cache.redis_session import Backoff, RedisSession
from llmhost.cache.sealing import Seal

MOST_QUEUED = 1_000
MOST_QUEUED_BYTES = 64 * 1024 * 1024
DROPPED = "store_dropped"  # the counter of answers that Redis did not get
_BATCH = 32
_IN_THREAD = 64 * 1024  # sealing more than this takes over a millisecond: not on the event loop
_TTL_JITTER = 0.1  # answers stored together must not all expire together
_TICK_S = 1.0
_OUR_HASH_IS_BROKEN = frozenset({"WRONGTYPE", "ERR"})  # someone else wrote to it: that says nothing about other writes
_NUMBER = re.compile(rb"-?\d{1,19}")


@dataclass(frozen=True, slots=True)
class _Put:
    value: bytes
    ttl_s: float


class RedisWriter:
    def __init__(self, session: RedisSession, keys: Keys, seal: Seal) -> None:
        self._session = session
        self._keys = keys
        self._seal = seal
        self._queue: OrderedDict[str, _Put] = OrderedDict()
        self._queued_bytes = 0
        self._writing: dict[str, _Put] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._counts: dict[str, int] = {}
        self._sending: dict[str, int] = {}
        self._known: dict[str, int] = {}
        self._counting = asyncio.Lock()
        self._trouble = ""
        self._backoff = Backoff()
        self._probe_at = 0.0
        self._checked = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def trouble(self) -> str:
        """Why writing does not work although reading does; empty when it does."""
        return self._trouble

    def start(self) -> None:
        self._tasks = [
            asyncio.create_task(self._write_queue(), name="redis-writer"),
            asyncio.create_task(self._tick(), name="redis-counts"),
        ]

    async def aclose(self, limit_s: float) -> None:
        """Write what is pending, within the limit, and stop."""
        with contextlib.suppress(TimeoutError, RedisTrouble):
            async with asyncio.timeout(limit_s):
                await self._idle.wait()
                await self.send_counts()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # -- answers

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        if self._session.down or self._trouble or not self._has_room(value):
            self.count({DROPPED: 1})
            return
        self._forget(key)
        self._queue[key] = _Put(value, ttl_s)
        self._queued_bytes += len(value)
        self._idle.clear()
        self._wake.set()

    def pending(self, key: str) -> bytes | None:
        """A value that is still on its way to Redis."""
        put = self._queue.get(key) or self._writing.get(key)
        return put.value if put else None

    def discard(self) -> None:
        """Forget the answers that are still queued."""
        self._queue.clear()
        self._queued_bytes = 0

    async def flush(self, limit_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._idle.wait()

    def _has_room(self, value: bytes) -> bool:
        return len(self._queue) < MOST_QUEUED and self._queued_bytes + len(value) <= MOST_QUEUED_BYTES

    def _forget(self, key: str) -> None:
        put = self._queue.pop(key, None)
        if put is not None:
            self._queued_bytes -= len(put.value)

    async def _write_queue(self) -> None:
        while True:
            await self._wake.wait()
            await self._session.settled(_TICK_S)
            self._take_batch()
            if self._writing:
                await self._write_batch(self._writing)
            self._writing = {}
            if not self._queue:
                self._wake.clear()
                self._idle.set()

    def _take_batch(self) -> None:
        while self._queue and len(self._writing) < _BATCH:
            key, put = self._queue.popitem(last=False)
            self._queued_bytes -= len(put.value)
            self._writing[key] = put

    async def _write_batch(self, batch: dict[str, _Put]) -> None:
        commands = [await self._set(key, put) for key, put in batch.items()]
        stored = 0
        with contextlib.suppress(RedisTrouble):
            replies = await self._write(commands)
            stored = sum(not isinstance(reply, Refused) for reply in replies)
        if stored < len(batch):
            self.count({DROPPED: len(batch) - stored})

    async def _set(self, key: str, put: _Put) -> Command:
        name = self._keys.entry(key)
        if len(put.value) > _IN_THREAD:
            sealed = await asyncio.to_thread(self._seal.close, name, put.value)
        else:
            sealed = self._seal.close(name, put.value)
        ttl_ms = put.ttl_s * 1000 * random.uniform(1 - _TTL_JITTER, 1 + _TTL_JITTER)
        return ("SET", name, sealed, "PX", max(1, round(ttl_ms)))

    # -- counters

    def count(self, counts: dict[str, int]) -> None:
        for name, amount in counts.items():
            self._counts[name] = self._counts.get(name, 0) + amount

    def totals(self) -> dict[str, int]:
        """What Redis is known to hold, and what it does not have yet."""
        return _sum(self._known, _sum(self._sending, self._counts))

    async def read_counts(self) -> None:
        """Send what is pending and learn what others have counted. Raises RedisTrouble."""
        async with self._counting:
            await self._send_counts()
            (reply,) = await self._session.write(("HGETALL", self._keys.counts))
            if isinstance(reply, list):
                self._known = _as_counts(reply)

    async def send_counts(self) -> None:
        """Add the pending counters to those in Redis. Raises RedisTrouble.

        Nothing is lost; what Redis did just before the connection broke, its reply under way, is counted twice.
        """
        async with self._counting:
            await self._send_counts()

    async def _send_counts(self) -> None:
        if not self._counts or self._trouble:
            return
        self._sending, self._counts = self._counts, {}
        try:
            names = list(self._sending)
            commands: list[Command] = [("HINCRBY", self._keys.counts, name, self._sending[name]) for name in names]
            for name, reply in zip(names, await self._write(commands, forgiven=_OUR_HASH_IS_BROKEN), strict=True):
                if isinstance(reply, int):
                    self._known[name] = reply
                    del self._sending[name]
        finally:
            self._counts, self._sending = _sum(self._sending, self._counts), {}

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            with contextlib.suppress(RedisTrouble):
                if self._check_is_due():
                    await self._check()
                await self.send_counts()

    # -- whether writing works

    def _check_is_due(self) -> bool:
        if not self._session.up:
            return False
        retry = bool(self._trouble) and asyncio.get_running_loop().time() >= self._probe_at
        return retry or self._checked != self._session.up_since

    async def _check(self) -> None:
        """Try a write that leaves nothing behind."""
        self._checked = self._session.up_since
        await self._write([("SET", self._keys.probe, b"", "PX", 1000)])

    async def _write(
        self, commands: Sequence[Command], forgiven: frozenset[str] = frozenset()
    ) -> list[Reply | Refused]:
        replies = await self._session.write(*commands)
        refusal = next((reply for reply in replies if isinstance(reply, Refused) and reply.code not in forgiven), None)
        if refusal is not None:
            self._trouble = refusal.reason
            self._probe_at = asyncio.get_running_loop().time() + self._backoff.next()
        elif self._trouble:
            self._trouble = ""
            self._backoff = Backoff()
        return replies


def _sum(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    return {name: first.get(name, 0) + second.get(name, 0) for name in first.keys() | second.keys()}


def _as_counts(reply: list[Reply]) -> dict[str, int]:
    """HGETALL's flat list as counters; what someone else may have put there and is no number is left out."""
    return {
        name.decode(errors="replace"): int(value)
        for name, value in zip(reply[::2], reply[1::2], strict=False)
        if isinstance(name, bytes) and isinstance(value, bytes) and _NUMBER.fullmatch(value)
    }
