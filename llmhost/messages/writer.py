"""Writes one answer as server-sent events, in the order and with the fields that the real clients insist on.

The anthropic SDK drops events without an `event:` line, wants every field of `content_block_start`, and raises on a first event other
than `message_start`; Claude Code takes `message_delta.usage` over that of `message_start`. So `start` may go out at once with an estimate.
"""

from __future__ import annotations

from typing import Any, Literal

import orjson

from llmhost.messages.ids import message_id, tool_use_id

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
BlockKind = Literal["text", "thinking", "tool_use"]


def sse(event: dict[str, Any]) -> bytes:
    """One event; its name is its `type`."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), orjson.dumps(event))


def usage(input_tokens: int, output_tokens: int, cache_read: int = 0, cache_creation: int = 0) -> dict[str, int]:
    """The four keys that are always present."""
    return {
        "input_tokens": input_tokens,
        "cache_creation_input_tokens": cache_creation,
        "cache_read_input_tokens": cache_read,
        "output_tokens": output_tokens,
    }


class EventWriter:
    """Turns an answer, piece by piece, into frames (bytes of whole events). Every method returns the frames to send, b"" when none.

    It opens and closes content blocks itself: a piece of another kind closes the block before it. `estimate` is the token count
    announced by `message_start`.
    """

    def __init__(self, model: str, estimate: int = 0, *, translates: bool = True, heartbeat_s: float = 240.0) -> None:
        self.model = model
        self.estimate = estimate
        self.translates = translates
        self.heartbeat_s = heartbeat_s
        self.started = False
        self.finished = False
        self.saw_tool = False
        self._open: BlockKind | None = None
        self._index = -1
        self._text_prefix = self._thinking_prefix = b""

    def start(self) -> bytes:
        """`message_start`, once."""
        if self.started:
            return b""
        self.started = True
        message: dict[str, Any] = {
            "id": message_id(),
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage(self.estimate, 1),
        }
        return sse({"type": "message_start", "message": message})

    def text(self, piece: str) -> bytes:
        """A piece of visible text."""
        if not piece:
            return b""
        opened = self._switch("text")
        return opened + b"%b%b}}\n\n" % (self._text_prefix, orjson.dumps(piece))

    def thinking(self, piece: str) -> bytes:
        """A piece of the model's reasoning."""
        if not piece:
            return b""
        opened = self._switch("thinking")
        return opened + b"%b%b}}\n\n" % (self._thinking_prefix, orjson.dumps(piece))

    def signature(self, signature: str) -> bytes:
        """Closes the thinking block with its signature."""
        if self._open != "thinking":
            return b""
        delta = {"type": "signature_delta", "signature": signature}
        return sse({"type": "content_block_delta", "index": self._index, "delta": delta}) + self.close_block()

    def tool_start(self, name: str, id: str | None = None) -> bytes:
        """Opens a tool call; its input follows by `tool_input`, its end is `close_block` or the next piece."""
        self.saw_tool = True
        block = {"type": "tool_use", "id": id or tool_use_id(), "name": name, "input": {}}
        return self.start() + self.close_block() + self._open_block("tool_use", block)

    def tool_input(self, partial_json: str) -> bytes:
        """A piece of the open tool call's input, as JSON text."""
        if not partial_json:
            return b""
        delta = {"type": "input_json_delta", "partial_json": partial_json}
        return sse({"type": "content_block_delta", "index": self._index, "delta": delta})

    def tool(self, name: str, arguments: dict[str, Any], id: str | None = None) -> bytes:
        """A whole tool call."""
        return self.tool_start(name, id) + self.tool_input(orjson.dumps(arguments).decode()) + self.close_block()

    def close_block(self) -> bytes:
        """`content_block_stop` of the open block, if any."""
        if self._open is None:
            return b""
        self._open = None
        return sse({"type": "content_block_stop", "index": self._index})

    def finish(self, stop_reason: str, counts: dict[str, int], stop_sequence: str | None = None) -> bytes:
        """`message_delta` with the exact usage, then `message_stop`."""
        delta = {"stop_reason": stop_reason, "stop_sequence": stop_sequence}
        frames = self.start() + self.close_block()
        self.finished = True
        return frames + sse({"type": "message_delta", "delta": delta, "usage": counts}) + sse({"type": "message_stop"})

    def idle(self, silent_s: float) -> bytes:
        """What to send after `silent_s` seconds without a real event.

        Pings keep the byte watchdog quiet, but Claude Code aborts after 610 s of pings alone (measured); an empty text delta counts as
        progress, so a text block is opened for it. Inside a tool call or reasoning only a ping fits.
        """
        if (
            not self.started
            or not self.translates
            or silent_s < self.heartbeat_s
            or self._open in ("thinking", "tool_use")
        ):
            return PING
        return self._switch("text") + self._text_prefix + b'""}}\n\n'

    def _switch(self, kind: BlockKind) -> bytes:
        if self._open == kind:
            return b""
        empty = (
            {"type": "text", "text": ""} if kind == "text" else {"type": "thinking", "thinking": "", "signature": ""}
        )
        return self.start() + self.close_block() + self._open_block(kind, empty)

    def _open_block(self, kind: BlockKind, block: dict[str, Any]) -> bytes:
        self._open = kind
        self._index += 1
        head = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":' % self._index
        )
        self._text_prefix = head + b'"text_delta","text":'
        self._thinking_prefix = head + b'"thinking_delta","thinking":'
        return sse({"type": "content_block_start", "index": self._index, "content_block": block})
