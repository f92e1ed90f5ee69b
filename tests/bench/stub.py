"""An upstream that costs next to nothing: the routes of Ollama that llmhost asks for, with answers made of ready bytes.

    python -m tests.bench.stub          prints its port, serves until its standard input ends

`POST /bench {"tokens": N, "gap_ms": G}` sets how many tokens an answer has and how far apart they are; 0 = all at once.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvloop

MODEL = "stub:latest"
CONTEXT = 131_072
HEAD = b"HTTP/1.1 %d OK\r\ncontent-type: %b\r\n"
TOKEN = b'{"model":"stub:latest","created_at":"2026-01-01T00:00:00Z","message":{"role":"assistant","content":" token"},"done":false}\n'
CHUNK = b"%x\r\n%b\r\n" % (len(TOKEN), TOKEN)
LAST_CHUNK = b"0\r\n\r\n"
DETAILS = {
    "format": "gguf",
    "family": "stub",
    "families": ["stub"],
    "parameter_size": "1B",
    "quantization_level": "Q4_K_M",
}
ENTRY = {
    "name": MODEL,
    "model": MODEL,
    "modified_at": "2026-01-01T00:00:00Z",
    "size": 1,
    "digest": "5" * 64,
    "details": DETAILS,
}
LOADED = {**ENTRY, "expires_at": "2318-01-01T00:00:00Z", "size_vram": 1, "context_length": CONTEXT}
SHOW = {
    "template": "{{ .Prompt }}{{ .Tools }}",
    "capabilities": ["completion", "tools"],
    "details": DETAILS,
    "model_info": {"general.architecture": "stub", "stub.context_length": CONTEXT},
}
ROUTES = {
    "/": {"status": "ok"},
    "/api/version": {"version": "0.24.0"},
    "/api/tags": {"models": [ENTRY]},
    "/api/ps": {"models": [LOADED]},
    "/api/show": SHOW,
    "/api/generate": {"model": MODEL, "response": "", "done": True, "done_reason": "load"},
}


class Pace:
    """What `/bench` set, shared by all connections; answers made once for it."""

    def __init__(self) -> None:
        self.set(50, 0)

    def set(self, tokens: int, gap_ms: float) -> None:
        self.tokens, self.gap_s = tokens, gap_ms / 1000
        whole = {"role": "assistant", "content": " token" * tokens}
        end = {"model": MODEL, "created_at": "2026-01-01T00:00:00Z", "done": True, "done_reason": "stop"}
        counts = {
            "prompt_eval_count": 10,
            "eval_count": tokens,
            "total_duration": 1,
            "load_duration": 1,
            "eval_duration": 1,
        }
        last = json.dumps({**end, "message": {"role": "assistant", "content": ""}, **counts}).encode() + b"\n"
        self.tail = b"%x\r\n%b\r\n%b" % (len(last), last, LAST_CHUNK)
        self.head = HEAD % (200, b"application/x-ndjson") + b"transfer-encoding: chunked\r\n\r\n"
        self.burst = self.head + CHUNK * tokens + self.tail
        self.message = json_response({**end, "message": whole, **counts})


def json_response(value: object, status: int = 200) -> bytes:
    body = json.dumps(value, separators=(",", ":")).encode()
    return HEAD % (status, b"application/json") + b"content-length: %d\r\n\r\n%b" % (len(body), body)


class Stub(asyncio.Protocol):
    """One connection."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.buffer = b""
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        if self.timer is not None:
            self.timer.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        while (request := self._next_request()) is not None:
            self._answer(*request)

    def _next_request(self) -> tuple[str, bytes] | None:
        at = self.buffer.find(b"\r\n\r\n")
        if at < 0:
            return None
        head = self.buffer[:at].lower()
        mark = head.find(b"content-length:")
        body_at = at + 4
        end = body_at + (int(head[mark + 15 :].split(b"\r\n", 1)[0]) if mark >= 0 else 0)
        if len(self.buffer) < end:
            return None
        body, self.buffer = self.buffer[body_at:end], self.buffer[end:]
        return head.split(b" ", 2)[1].decode().partition("?")[0], body

    def _answer(self, path: str, body: bytes) -> None:
        if path == "/api/chat":
            self._chat(streaming=b'"stream":false' not in body and b'"stream": false' not in body)
        elif path == "/bench":
            self.pace.set(**json.loads(body))
            self.transport.write(json_response({}))
        elif path in ROUTES:
            self.transport.write(json_response(ROUTES[path]))
        else:
            self.transport.write(json_response({"error": f"no route {path}"}, 404))

    def _chat(self, *, streaming: bool) -> None:
        if not streaming:
            self.transport.write(self.pace.message)
        elif self.pace.gap_s == 0:
            self.transport.write(self.pace.burst)
        else:
            self.transport.write(self.pace.head)
            self._token(self.pace.tokens, asyncio.get_running_loop().time(), self.pace.gap_s)

    def _token(self, left: int, due: float, gap_s: float) -> None:
        if left == 0:
            self.transport.write(self.pace.tail)
            return
        self.transport.write(CHUNK)
        due += gap_s
        self.timer = asyncio.get_running_loop().call_at(due, self._token, left - 1, due, gap_s)


async def serve() -> None:
    pace = Pace()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Stub(pace), "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(serve())
