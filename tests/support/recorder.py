"""A tiny Messages API on loopback that records what a client sends and answers one sentence."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WAIT_S = 30.0


@dataclass
class Recorded:
    """One request as it arrived; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Recorder:
    """What was asked, and the knobs of the answer. `hold` keeps every answer open until it is set."""

    url: str = ""
    answer: str = "recorded answer"
    requests: list[Recorded] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)
    hold: threading.Event = field(default_factory=threading.Event)

    @property
    def messages(self) -> list[Recorded]:
        """The requests that wanted an answer of the model."""
        return [r for r in self.requests if r.method == "POST" and r.path.split("?")[0] == "/v1/messages"]

    def wait_for_message(self) -> Recorded:
        """The first such request, waited for."""
        assert self.arrived.wait(WAIT_S), "no request arrived"
        return self.messages[0]


def sse(events: list[dict[str, Any]]) -> bytes:
    """Server-sent events of the Messages API."""
    return b"".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in events)


def _message(model: str, content: list[dict[str, Any]], stop: str | None) -> dict[str, Any]:
    usage = {"input_tokens": 10, "output_tokens": 3, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    head = {"id": "msg_recorder", "type": "message", "role": "assistant", "model": model}
    return {**head, "content": content, "stop_reason": stop, "stop_sequence": None, "usage": usage}


def _stream(model: str, text: str) -> bytes:
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}
    first = {"type": "message_start", "message": _message(model, [], None)}
    return sse([first, start, delta, {"type": "content_block_stop", "index": 0}, end, {"type": "message_stop"}])


def _handler(recorder: Recorder) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def _record(self) -> Recorded:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {key.lower(): value for key, value in self.headers.items()}
            found = Recorded(self.command, self.path, headers, json.loads(raw) if raw else {})
            recorder.requests.append(found)
            return found

        def _reply(self, body: bytes, kind: str = "application/json") -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            self._record()
            self._reply(b"")

        def do_GET(self) -> None:
            self._record()
            self._reply(b"{}")

        def do_POST(self) -> None:
            request = self._record()
            if request.path.split("?")[0] != "/v1/messages":
                return self._reply(b"{}")
            recorder.arrived.set()
            recorder.hold.wait(WAIT_S)
            model = request.body.get("model", "")
            try:
                if request.body.get("stream"):
                    self._reply(_stream(model, recorder.answer), "text/event-stream")
                else:
                    content = [{"type": "text", "text": recorder.answer}]
                    self._reply(json.dumps(_message(model, content, "end_turn")).encode())
            except OSError:  # the client was told to leave
                self.close_connection = True

    return Handler


@contextmanager
def recording() -> Iterator[Recorder]:
    """A recorder that listens on a free port of loopback. Answers flow at once; clear `hold` to keep them back."""
    recorder = Recorder()
    recorder.hold.set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(recorder))
    recorder.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield recorder
    finally:
        recorder.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()
