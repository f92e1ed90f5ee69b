"""What one upstream request costs through the client we use and through httpx: `python -m tests.bench.bench_http_client`.

Both talk to the same server on loopback, in turns; the figures are processor time of the client's side per request, medians of rounds.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import httpx
import uvloop

from llmhost.backends.http import Upstream

ROUNDS, REQUESTS = 7, 200
BODY = b'{"messages": "' + b"x" * 80_000 + b'"}'
SERVER = """
import asyncio, sys
async def answer(reader, writer):
    while head := await reader.readuntil(b"\\r\\n\\r\\n"):
        await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\\r\\n")[0]))
        writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()
asyncio.run(main())
"""


async def cost(ask: Callable[[], Awaitable[object]]) -> float:
    """Microseconds of processor time for one request."""
    began = time.process_time()
    for _ in range(REQUESTS):
        await ask()
    return (time.process_time() - began) / REQUESTS * 1e6


async def compare(url: str) -> dict[str, float]:
    ours = Upstream(url)

    async def through_ours() -> None:
        async with ours.stream("POST", "/api/chat", BODY) as response:
            await response.read()

    async with httpx.AsyncClient(base_url=url) as theirs:
        asks = {"aiohttp": through_ours, "httpx": lambda: theirs.post("/api/chat", content=BODY)}
        rounds = [{name: await cost(ask) for name, ask in asks.items()} for _ in range(ROUNDS)]
    await ours.aclose()
    return {name: statistics.median(one[name] for one in rounds) for name in asks}


def main() -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        found = uvloop.run(compare(f"http://127.0.0.1:{server.stdout.readline().strip()}"))
    finally:
        server.kill()
        server.wait()
    for name, micros in found.items():
        print(f"{name:8} {micros:6.0f} µs  {micros / found['aiohttp']:.1f} ×")


if __name__ == "__main__":
    main()
