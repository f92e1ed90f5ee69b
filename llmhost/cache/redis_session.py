"""Keeps a Redis connected, and knows within one time-out whether it can be used: the circuit breaker.

    connecting ──► up ──(no answer, error on a read)──► down ──(back-off 0.5 … 10 s, connect and probe)──► up
        ▲           └──(connection lost after ≥ 1 s)──► connecting
        └─ a request waits here, but never past its own time-out; when down it does not wait at all

Two connections: reads never queue behind a large write. Connections are made in the background with a limit of their own, because a TLS
connection to a hosted Redis takes longer than any request should wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import Literal

from llmhost.cache.redis_address import CONNECT_LIMIT_S, RedisAddress
from llmhost.cache.redis_errors import Lost, RedisTrouble, Refused
from llmhost.cache.redis_link import Command, RedisLink, Reply

log = logging.getLogger(__name__)

WRITE_LIMIT_S = 1.0
WRITE_BYTES_PER_S = 1_000_000  # what even a slow uplink carries; a larger write gets proportionally longer
_STABLE_S = 1.0  # a connection that lasted this long may be replaced at once
_MOST_REDIRECTIONS = 3

SessionState = Literal["connecting", "up", "down"]


class Backoff:
    """0.5 s, doubling to 10 s, ±20 % so that many gateways do not knock at the same moment."""

    def __init__(self, first_s: float = 0.5, most_s: float = 10.0) -> None:
        self._first, self._most = first_s, most_s
        self._next = first_s

    def next(self) -> float:
        delay, self._next = self._next, min(self._next * 2, self._most)
        return delay * random.uniform(0.8, 1.2)

    def reset_after(self, good_s: float) -> None:
        """Start anew, if things were good for at least the longest delay."""
        if good_s >= self._most:
            self._next = self._first


class RedisSession:
    """Reads and writes on a Redis that comes and goes. `probe_key` is read to test it; it need not exist.

    `limit_s` bounds a read in total, waiting for a connection included.
    """

    def __init__(self, address: RedisAddress, probe_key: str, limit_s: float, backoff: Backoff | None = None) -> None:
        self._configured = address
        self._address = address
        self._probe_key = probe_key
        self._limit_s = limit_s
        self._backoff = backoff or Backoff()
        self._reads: RedisLink | None = None
        self._writes: RedisLink | None = None
        self._state: SessionState = "connecting"
        self._reason = "connecting to Redis"
        self._settled = asyncio.Event()
        self._broken: asyncio.Future[RedisTrouble] | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._warned = False
        self._up_since = 0.0

    @property
    def up_since(self) -> float:
        """When it last came up, by `time.monotonic`; 0 when never. After that moment another server may be behind the address."""
        return self._up_since

    @property
    def up(self) -> bool:
        return self._state == "up"

    @property
    def down(self) -> bool:
        return self._state == "down"

    @property
    def reason(self) -> str:
        """Why it is not up; empty when it is."""
        return "" if self.up else self._reason

    def start(self) -> None:
        """Connect in the background, for good."""
        self._supervisor = asyncio.create_task(self._supervise(), name="redis-session")

    async def aclose(self) -> None:
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
        await self._drop_links()
        self._enter("down", "closed")

    async def settled(self, limit_s: float) -> None:
        """Wait until it is known whether Redis can be used, at most `limit_s`."""
        if not self._settled.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await self._settled.wait()

    async def read(self, *command: str | bytes | int) -> Reply:
        """The reply within the limit. Raises RedisTrouble; WRONGTYPE aside, the session is then no longer up."""
        limit_s = self._limit_s
        if self._state == "connecting":
            clock = asyncio.get_running_loop().time
            started = clock()
            await self.settled(limit_s)
            limit_s -= clock() - started
        link = self._reads
        if link is None or self._state != "up":
            raise Lost(self._reason)
        try:
            return await link.ask(*command, limit_s=limit_s)
        except RedisTrouble as trouble:
            if not (isinstance(trouble, Refused) and trouble.code == "WRONGTYPE"):
                self._break(trouble, link)
            raise

    async def write(self, *commands: Command) -> list[Reply | Refused]:
        """The replies to commands that nobody waits for; error replies are in the list. Raises RedisTrouble."""
        link = self._writes
        if link is None or self._state != "up":
            raise Lost(self._reason)
        size = sum(len(part) for command in commands for part in command if isinstance(part, bytes))
        try:
            return await link.ask_all(commands, WRITE_LIMIT_S + size / WRITE_BYTES_PER_S)
        except RedisTrouble as trouble:
            self._break(trouble, link)
            raise

    def _break(self, trouble: RedisTrouble, link: RedisLink) -> None:
        current = link in (self._reads, self._writes)  # what an earlier connection still has to say changes nothing
        if current and self._broken is not None and not self._broken.done():
            self._broken.set_result(trouble)
            self._enter("down" if not isinstance(trouble, Lost) else "connecting", trouble.reason)

    async def _supervise(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            try:
                await self._establish()
            except RedisTrouble as trouble:
                await self._pause(trouble)
                continue
            since = clock()
            end = await self._broken_by()
            lasted = clock() - since
            self._backoff.reset_after(lasted)
            await self._drop_links()
            if not isinstance(end, Lost) or lasted < _STABLE_S:
                await self._pause(end)

    async def _pause(self, trouble: RedisTrouble) -> None:
        self._address = self._configured
        self._enter("down", trouble.reason)
        self._tell_outage(trouble.reason)
        await asyncio.sleep(self._backoff.next())

    async def _broken_by(self) -> RedisTrouble:
        assert self._broken is not None
        return await self._broken

    async def _establish(self) -> None:
        # A request waits for the first attempt only as long as for an answer; then it is answered without Redis meanwhile.
        patience = asyncio.get_running_loop().call_later(self._limit_s, self._stop_waiting)
        try:
            for _ in range(_MOST_REDIRECTIONS):
                if await self._connect_and_probe():
                    self._enter("up", "")
                    self._up_since = time.monotonic()
                    self._tell_recovery()
                    return
            raise Lost("the Redis cluster redirects in a circle")
        except BaseException:
            await self._drop_links()
            raise
        finally:
            patience.cancel()

    async def _connect_and_probe(self) -> bool:
        """Whether Redis answers in time; False means that a cluster sent us to another node, whose address is now set."""
        await self._drop_links()
        self._broken = asyncio.get_running_loop().create_future()
        self._reads = await self._open()
        self._writes = await self._open()
        try:
            await self._reads.ask("GET", self._probe_key, limit_s=self._limit_s)
        except Refused as refusal:
            if refusal.moved_to is None:
                raise
            self._address = self._address.moved(*refusal.moved_to)
            return False
        return True

    async def _open(self) -> RedisLink:
        link = RedisLink(self._address.connection(), lambda trouble: self._break(trouble, link))
        await link.open(CONNECT_LIMIT_S)
        return link

    async def _drop_links(self) -> None:
        links, self._reads, self._writes = (self._reads, self._writes), None, None
        for link in links:
            if link is not None:
                await link.close()

    def _stop_waiting(self) -> None:
        if self._state == "connecting":
            self._enter("down", self._reason)

    def _enter(self, state: SessionState, reason: str) -> None:
        self._state, self._reason = state, reason
        if state == "connecting":
            self._settled.clear()
        else:
            self._settled.set()

    def _tell_outage(self, reason: str) -> None:
        if not self._warned:
            log.warning("redis cannot be used: %s", reason)
        self._warned = True

    def _tell_recovery(self) -> None:
        if self._warned:
            log.info("redis is back")
        self._warned = False
