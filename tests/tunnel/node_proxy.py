"""A stand-in for a node's proxy: `python -m tests.tunnel.node_proxy SOCKET TOKEN [HOST PORT]`, HTTP on a Unix socket (and a TCP port).

`GET /internal/status` with the token (200 `{"pid", "in_flight"}`) · `GET /stream?COUNT&EVERY_S`: COUNT chunks `data: N\\n\\n`, one every
EVERY_S · `POST /echo` gives the body's length back · `GET /trouble?on|off`: `/internal/status` answers 500.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import suppress

in_flight = 0
trouble = False


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    global in_flight
    in_flight += 1
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        await answer(head, reader, writer)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        in_flight -= 1
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def answer(head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    global trouble
    path, _, query = head.split()[1].partition("?")
    if path == "/stream":
        await stream(query, writer)
    elif path == "/echo":
        length = next(
            int(line.split(":")[1]) for line in head.splitlines() if line.lower().startswith("content-length")
        )
        await reply(writer, 200, {"length": len(await reader.readexactly(length))})
    elif path == "/trouble":
        trouble = query == "on"
        await reply(writer, 200, {})
    elif f"Bearer {sys.argv[2]}" not in head:
        await reply(writer, 401, {})
    else:
        await reply(writer, 500 if trouble else 200, {"pid": os.getpid(), "in_flight": in_flight})


async def reply(writer: asyncio.StreamWriter, status: int, data: dict) -> None:
    body = json.dumps(data).encode()
    writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n".encode() + body)
    await writer.drain()


async def stream(query: str, writer: asyncio.StreamWriter) -> None:
    count, every_s = query.split("&")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(int(count)):
        await asyncio.sleep(max(0.0, began + number * float(every_s) - loop.time()))
        writer.write(f"data: {number} {loop.time():.6f}\n\n".encode())
        await writer.drain()


async def main() -> None:
    with suppress(FileNotFoundError):
        os.unlink(sys.argv[1])
    server = await asyncio.start_unix_server(serve, sys.argv[1], backlog=1024)
    if len(sys.argv) > 3:
        await asyncio.start_server(serve, sys.argv[3], int(sys.argv[4]), backlog=1024)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
