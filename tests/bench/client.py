"""A client lean enough to load a server from Python: keep-alive connections that send ready-made bytes and count what comes back."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

END_OF_HEAD = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


class Broken(Exception):
    """The connection ended before the response did."""


@dataclass(slots=True)
class Reply:
    """One response. Times in seconds since the request was written; `tokens` counts the wanted mark in the body; `tail` is its end."""

    status: int
    seconds: float
    first_token: float | None
    tokens: int
    tail: bytes
    headers: bytes


def post(path: str, body: bytes, token: str = "") -> bytes:
    """The bytes of one request."""
    lines = [
        f"POST {path} HTTP/1.1",
        "host: 127.0.0.1",
        "content-type: application/json",
        f"content-length: {len(body)}",
    ]
    lines += [f"authorization: Bearer {token}"] if token else []
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, mark: bytes) -> None:
        self.mark = mark
        self.transport: Any = None  # uvloop has its own class
        self.reply: asyncio.Future[Reply] | None = None

    @classmethod
    async def open(cls, port: int, mark: bytes) -> Connection:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(lambda: cls(mark), "127.0.0.1", port)
        return protocol

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    async def exchange(self, request: bytes) -> Reply:
        """Send a request and wait for the whole response. Raises Broken."""

        self.head = b""
        self.length = -1
        self.received = self.tokens = 0
        self.tail = b""
        self.first_token: float | None = None
        self.reply = asyncio.get_running_loop().create_future()
        self.began = time.perf_counter()
        if self.transport.is_closing():
            raise Broken("closed by the server")
        self.transport.write(request)
        return await self.reply

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if not self.head.endswith(END_OF_HEAD):
            head, end, data = (self.head + data).partition(END_OF_HEAD)
            self.head = head + end
            if not end:
                return
            self.length = _content_length(head)
        self._take(data)

    def _take(self, data: bytes) -> None:
        self.received += len(data)
        # The mark may lie across two reads: look again at what could be its beginning.
        seam = self.tail[-(len(self.mark) - 1) :] + data
        self.tokens += seam.count(self.mark)
        if self.tokens and self.first_token is None:
            self.first_token = time.perf_counter() - self.began
        self.tail = (self.tail + data)[-200:] if len(data) < 200 else data[-200:]
        whole = self.received >= self.length if self.length >= 0 else self.tail.endswith(LAST_CHUNK)
        if whole and self.reply is not None and not self.reply.done():
            status = int(self.head[9:12])
            seconds = time.perf_counter() - self.began
            self.reply.set_result(Reply(status, seconds, self.first_token, self.tokens, self.tail, self.head))

    def connection_lost(self, error: Exception | None) -> None:
        if self.reply is not None and not self.reply.done():
            self.reply.set_exception(Broken(str(error or "closed by the server")))


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return -1
