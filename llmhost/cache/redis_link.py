"""One connection to Redis that many requests use at once.

The client library makes the connection (TCP or Unix socket, TLS, AUTH, SELECT) and speaks the protocol; this class pipelines on top of
it: commands go out as they come, replies come back in the same order. The library's own pooled client closes a connection whenever a caller
gives up on it; here an answer that comes too late is just dropped. It is also the cheaper way: see `tests/bench/bench_store.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Sequence

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError

from llmhost.cache.redis_errors import Lost, RedisTrouble, Refused, TooSlow, lost

Reply = bytes | int | list["Reply"] | None
Command = tuple[str | bytes | int, ...]

# Small commands in flight. 256 of at most 200 bytes stay below the 64 KiB at which a transport makes writers wait, so `ask` never
# waits to send and a plain timer is enough of a time-out; beyond that it takes the way of `ask_all`.
MAX_IN_FLIGHT = 256
# A loop that was busy (a 32 MB body being parsed) sees the timer and the reply at the same moment: the reply gets these extra turns.
_EXTRA_TURNS = 3


class RedisLink:
    """`on_lost` is called once when the connection ends for any reason but `close`."""

    def __init__(self, connection: AbstractConnection, on_lost: Callable[[Lost], None]) -> None:
        self._connection = connection
        self._on_lost = on_lost
        self._waiting: deque[asyncio.Future[Reply]] = deque()
        self._reader: asyncio.Task[None] | None = None
        self._transport: asyncio.WriteTransport | None = None
        self._lost: Lost | None = None

    async def open(self, limit_s: float) -> None:
        """Connect and authenticate. Raises Lost."""
        try:
            async with asyncio.timeout(limit_s):
                await self._connection.connect()  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001  # a server that is no Redis makes the library raise almost anything
            await self.close()
            raise lost(error) from None
        # Private, because the library has no public way to end a connection without waiting for its peer.
        writer = self._connection._writer
        self._transport = writer.transport if writer else None
        self._reader = asyncio.create_task(self._read(), name="redis-link")
        self._reader.add_done_callback(self._ended)

    async def ask(self, *command: str | bytes | int, limit_s: float) -> Reply:
        """The reply to one small command. Raises Lost, TooSlow, Refused."""
        self._check()
        if len(self._waiting) >= MAX_IN_FLIGHT:
            return _raised((await self.ask_all([command], limit_s))[0])
        future = self._expect()
        timer = future.get_loop().call_later(limit_s, _expire, future, limit_s, _EXTRA_TURNS)
        try:
            await self._connection.send_packed_command(self._connection.pack_command(*command), check_health=False)
            return await future
        except (RedisError, OSError) as error:
            raise lost(error) from None
        finally:
            _discard(future)
            timer.cancel()

    async def ask_all(self, commands: Sequence[Command], limit_s: float) -> list[Reply | Refused]:
        """The replies to any number of commands of any size, sent in one go. Raises Lost, TooSlow; error replies are in the list."""
        self._check()
        futures = [self._expect() for _ in commands]
        try:
            async with asyncio.timeout(limit_s):
                await self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
                return [await _settled(future) for future in futures]
        except TimeoutError:
            raise TooSlow(limit_s) from None
        except (RedisError, OSError) as error:
            raise lost(error) from None
        finally:
            for future in futures:
                _discard(future)

    async def close(self) -> None:
        """Close at once; whoever waits gets Lost."""
        self._on_lost = _nobody
        self._abort()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader])
        with contextlib.suppress(RedisError, OSError):
            await self._connection.disconnect(nowait=True)

    def _check(self) -> None:
        # Without a connection the library would make a new one on its own.
        if self._lost is not None or not self._connection.is_connected:
            raise self._lost or lost(None)

    def _expect(self) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future

    async def _read(self) -> None:
        while True:
            reply: Reply | Refused
            try:
                reply = await self._connection.read_response(disable_decoding=True, timeout=math.inf)
            except ResponseError as error:
                reply = Refused(error)
            self._deliver(reply)

    def _deliver(self, reply: Reply | Refused) -> None:
        if not self._waiting:
            raise Lost("the server does not speak the Redis protocol")
        future = self._waiting.popleft()
        if future.done():
            return
        if isinstance(reply, Refused):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    def _ended(self, reader: asyncio.Task[None]) -> None:
        self._lost = lost(None if reader.cancelled() else reader.exception())
        self._abort()
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(self._lost)
        self._on_lost(self._lost)

    def _abort(self) -> None:
        if self._transport is not None:
            # The first releases of Python 3.11 lose the protocol of a TLS transport that was closed twice, and raise here.
            with contextlib.suppress(AttributeError):
                self._transport.abort()


def _expire(future: asyncio.Future[Reply], limit_s: float, turns: int) -> None:
    if future.done():
        return
    if turns:
        future.get_loop().call_soon(_expire, future, limit_s, turns - 1)
    else:
        future.set_exception(TooSlow(limit_s))


async def _settled(future: asyncio.Future[Reply]) -> Reply | Refused:
    try:
        return await future
    except Refused as refusal:
        return refusal


def _raised(reply: Reply | Refused) -> Reply:
    if isinstance(reply, Refused):
        raise reply
    return reply


def _discard(future: asyncio.Future[Reply]) -> None:
    """Nobody waits any more: a later reply is dropped, and an error that is already there was seen."""
    if not future.cancel() and not future.cancelled():
        future.exception()


def _nobody(_: RedisTrouble) -> None:
    """Hears nothing: the link was closed on purpose."""
