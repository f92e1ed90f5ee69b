"""The measurements. Each sends the same work directly and through llmhost, in turns, so that both meet the same machine."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.bodies import Body
from tests.bench.client import Broken, Connection, Reply, post
from tests.bench.processes import TICKS, TOKEN, Server

NDJSON_TOKEN = b'"done":false'
SSE_TOKEN = b'"text_delta"'
FINISHED = (b"message_stop", b'"done": true', b'"done":true', b'"stop_reason"')


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go: the path, the token and what marks one token in the answer."""

    server: Server
    path: str
    mark: bytes
    token: str = ""

    def request(self, body: bytes) -> bytes:
        return post(self.path, body, self.token)

    async def connect(self) -> Connection:
        return await Connection.open(self.server.port, self.mark)


def direct(server: Server) -> Target:
    return Target(server, "/api/chat", NDJSON_TOKEN)


def through(server: Server) -> Target:
    return Target(server, "/v1/messages", SSE_TOKEN, TOKEN)


async def set_pace(upstream: Server, tokens: int, gap_ms: float = 0) -> None:
    connection = await Connection.open(upstream.port, b"\0")
    await connection.exchange(post("/bench", b'{"tokens":%d,"gap_ms":%f}' % (tokens, gap_ms)))
    connection.close()


async def latencies(target: Target, make: Callable[[], bytes], count: int, *, first_token: bool = False) -> list[float]:
    """Seconds of each of `count` requests, one after another: until the end, or until the first token."""
    connection = await target.connect()
    found = []
    for _ in range(count):
        reply = await connection.exchange(target.request(make()))
        _check(reply)
        found.append(reply.first_token or 0.0 if first_token else reply.seconds)
    connection.close()
    return found


async def compared(
    one: Target,
    other: Target,
    bodies: tuple[Callable[[], bytes], Callable[[], bytes]],
    rounds: int,
    count: int,
    *,
    first_token: bool = False,
) -> tuple[float, float]:
    """The median seconds of both targets, measured in turns."""
    seen: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for target, make, found in zip((one, other), bodies, seen, strict=True):
            await latencies(target, make, max(3, count // 10), first_token=first_token)
            found.append(statistics.median(await latencies(target, make, count, first_token=first_token)))
    return statistics.median(seen[0]), statistics.median(seen[1])


@dataclass(frozen=True, slots=True)
class Flood:
    """`done` requests as fast as they go, and the processor seconds of the server under test."""

    done: int
    seconds: float
    cpu_s: float

    @property
    def per_core(self) -> float:
        """Requests one core can answer in a second."""
        return self.done / max(self.cpu_s, 1 / TICKS)  # the kernel counts in ticks


async def flood(target: Target, make: Callable[[], bytes], connections: int, seconds: float) -> Flood:
    """Keep `connections` busy for `seconds`."""
    cpu = target.server.cpu_s()
    began = time.perf_counter()

    async def work() -> int:
        connection = await target.connect()
        done = 0
        while time.perf_counter() - began < seconds:
            _check(await connection.exchange(target.request(make())))
            done += 1
        connection.close()
        return done

    done = sum(await asyncio.gather(*(work() for _ in range(connections))))
    return Flood(done, time.perf_counter() - began, target.server.cpu_s() - cpu)


@dataclass(frozen=True, slots=True)
class Streams:
    """Streams side by side. `failed`: broken, not 200, or without all their tokens and their end."""

    replies: list[Reply]
    failed: int
    cpu_s: float

    @property
    def first_token_s(self) -> float:
        return statistics.median(reply.first_token or 0.0 for reply in self.replies)

    @property
    def cpu_us_per_token(self) -> float:
        return self.cpu_s * 1e6 / sum(reply.tokens for reply in self.replies)


async def streams(target: Target, body: Body, count: int, tokens: int, *, apart_s: float = 0.002) -> Streams:
    """Start `count` streams `apart_s` seconds apart and read each to its end."""
    cpu = target.server.cpu_s()

    async def one(number: int) -> Reply | None:
        await asyncio.sleep(number * apart_s)
        try:
            connection = await target.connect()
            reply = await connection.exchange(target.request(body.fresh()))
        except (Broken, OSError):
            return None
        connection.close()
        whole = reply.status == 200 and reply.tokens == tokens and any(mark in reply.tail for mark in FINISHED)
        return reply if whole else None

    found = await asyncio.gather(*(one(number) for number in range(count)))
    replies = [reply for reply in found if reply is not None]
    return Streams(replies, count - len(replies), target.server.cpu_s() - cpu)


def _check(reply: Reply) -> None:
    if reply.status != 200:
        raise RuntimeError(f"status {reply.status}: {reply.tail.decode(errors='replace')}")
