"""A server that stands for a node's proxy at the far end of a link: on a Unix socket and on a loopback TCP port at once.

    GET  /health                       200
    GET  /stream?events=N&every=S      N server-sent events, one per S seconds, each with its number and the clock (time.monotonic)
    GET  /slow?seconds=S               200 after S seconds
    POST /upload                       reads the body (content-length) and answers its length and SHA-256
    POST /refuse[?abrupt=1]            413 before the body is read; then it reads on a little as a good server does, or closes at once
    POST /until-eof                    reads until the client half-closes, then answers the length
    GET  /counters                     {"open": streams that run, "seen": connections so far, "abandoned": streams whose client went away}

Every answer closes its connection. It runs in a process of its own (`EchoNode`), so that a test's own work does not slow it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

LINGER_S = 5.0


class EchoNode:
    """The server in a process of its own; `socket` and `port` are where it listens. It ends with `close`, and with the test."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "n.sock"
        folder.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> EchoNode:
        """Also after `close`: on the same port."""
        command = [sys.executable, "-m", "tests.support.echo_node", str(self.socket), str(self.port)]
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root)
        self.port = int(self._process.stdout.readline())
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def counters(self) -> dict[str, int]:
        """What it counted, asked directly."""
        return json.loads(ask(self.socket, "GET", "/counters")[1])

    def __enter__(self) -> EchoNode:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()


# ── clients ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class UnixConnection(http.client.HTTPConnection):
    """http.client over a Unix socket."""

    def __init__(self, path: Path | str, timeout: float) -> None:
        super().__init__("node", timeout=timeout)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = dial(self._path, self.timeout)


def dial(path: Path | str, timeout: float = 30.0) -> socket.socket:
    """A connected Unix socket."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))  # without a time-out: with one, a full backlog is an error at once
        connection.settimeout(timeout)
    except OSError:
        connection.close()
        raise
    return connection


def ask(path: Path | str, method: str, target: str, body: bytes = b"", timeout: float = 30.0) -> tuple[int, bytes]:
    """Status and body of one request. Raises OSError or HTTPException when no whole answer comes."""
    connection = UnixConnection(path, timeout)
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # an early answer can still be read
            connection.request(method, target, body)
        response = http.client.HTTPResponse(connection.sock, method=method)
        response.begin()
        return response.status, response.read()
    finally:
        connection.close()


def events(path: Path | str, count: int, every: float, timeout: float = 30.0) -> Iterator[tuple[int, float]]:
    """The number of each event as it arrives, and how many seconds it was under way. Ends early when the stream is cut."""
    with contextlib.closing(dial(path, timeout)) as connection:
        connection.sendall(b"GET /stream?events=%d&every=%f HTTP/1.1\r\nhost: node\r\n\r\n" % (count, every))
        with connection.makefile("rb") as file:
            for line in _lines(file):
                if line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    yield event["n"], time.monotonic() - event["at"]


def _lines(file) -> Iterator[bytes]:
    with contextlib.suppress(ConnectionResetError):
        yield from file


# ── the server ──────────────────────────────────────────────────────────────────────────────────────────────────────


class _Server:
    def __init__(self) -> None:
        self.open = self.seen = self.abandoned = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            route = urlsplit(head.split()[1])
            query = {name: float(values[0]) for name, values in parse_qs(route.query).items()}
            self.seen += 1
            self.open += 1
            try:
                await getattr(self, "on" + route.path.replace("/", "_").replace("-", "_"))(reader, writer, head, query)
            finally:
                self.open -= 1
        writer.close()

    async def on_health(self, reader, writer, head, query):
        await _answer(writer, 200, {"ok": True})

    async def on_counters(self, reader, writer, head, query):
        await _answer(writer, 200, {"open": self.open - 1, "seen": self.seen - 1, "abandoned": self.abandoned})

    async def on_slow(self, reader, writer, head, query):
        await asyncio.sleep(query["seconds"])
        await _answer(writer, 200, {"ok": True})

    async def on_stream(self, reader, writer, head, query):
        gone = asyncio.ensure_future(reader.read(1))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        start = time.monotonic()
        for number in range(int(query["events"])):
            await asyncio.wait([gone], timeout=max(0.0, start + number * query["every"] - time.monotonic()))
            if gone.done():
                self.abandoned += 1
                return
            writer.write(b"data: %s\n\n" % json.dumps({"n": number, "at": time.monotonic()}).encode())
            await writer.drain()
        gone.cancel()

    async def on_upload(self, reader, writer, head, query):
        body = await reader.readexactly(_length(head))
        await _answer(writer, 200, {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()})

    async def on_refuse(self, reader, writer, head, query):
        await _answer(writer, 413, {"error": "too large"})
        if "abrupt" not in query:
            writer.write_eof()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LINGER_S):
                    while await reader.read(65_536):
                        pass

    async def on_until_eof(self, reader, writer, head, query):
        body = await reader.read()
        await _answer(writer, 200, {"bytes": len(body)})


def _length(head: str) -> int:
    lines = (line.partition(":") for line in head.lower().splitlines())
    return next((int(value) for name, _, value in lines if name == "content-length"), 0)


async def _answer(writer: asyncio.StreamWriter, status: int, data: object) -> None:
    body = json.dumps(data).encode()
    writer.write(b"HTTP/1.1 %d X\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (status, len(body), body))
    await writer.drain()


async def _run(path: str, port: int) -> None:
    server = _Server()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    await asyncio.start_unix_server(server.serve, path, backlog=512)
    tcp = await asyncio.start_server(server.serve, "127.0.0.1", port, backlog=512)
    print(tcp.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)  # its end is the end of the test


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("socket")
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_run(options.socket, options.port))
