"""Reading the lines of `/api/chat`: one JSON object a line, about one a token, the last with `done: true` and the counts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Any

import orjson

from llmhost.backends.ollama.codec import Outcome
from llmhost.backends.ollama.coerce import coerce_arguments
from llmhost.backends.ollama.stops import StopMatcher
from llmhost.messages.errors import ApiError
from llmhost.messages.prompt import Prompt
from llmhost.messages.writer import EventWriter

INPUT_PIECE = 1_000  # characters of a call's input in one event
SIGNING_KEY = secrets.token_bytes(32)  # a signature is made so that the field is filled; any echo is accepted


class ChatDecoder:
    """One answer. See `codec.Decoder`."""

    def __init__(self, prompt: Prompt, writer: EventWriter) -> None:
        self.outcome = Outcome()
        self._prompt = prompt
        self._writer = writer
        self._stops = StopMatcher(prompt.stop)
        self._silent = prompt.max_tokens == 0
        self._signature: hmac.HMAC | None = None
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        frames: list[bytes] = []
        try:
            frames.extend(self._line(line) for line in lines if line)
        except ApiError as failure:
            self.outcome.failure = failure
        return b"".join(frames)

    def end(self) -> bytes:
        return self._close_thinking() + self._shown(self._stops.rest())

    def _line(self, line: bytes) -> bytes:
        if self.outcome.cut and b'"done":true' not in line:
            return b""
        event = _parsed(line)
        message = event.get("message")
        frames = self._message(message) if message and not self._silent and not self.outcome.cut else b""
        if event.get("done") is True:
            self.outcome.final = event
        return frames

    def _message(self, message: dict[str, Any]) -> bytes:
        self.outcome.pieces += 1
        frames = b""
        if message.get("thinking"):
            frames += self._thinking(message["thinking"])
        if message.get("content"):
            frames += self._text(message["content"])
        for call in message.get("tool_calls") or ():
            frames += self._call(call.get("function") or {})
        return frames

    def _thinking(self, piece: str) -> bytes:
        if self._signature is None:
            self._signature = hmac.new(SIGNING_KEY, digestmod=hashlib.sha256)
        self._signature.update(piece.encode())
        return self._writer.thinking(piece)

    def _close_thinking(self) -> bytes:
        if self._signature is None:
            return b""
        digest, self._signature = self._signature.digest(), None
        return self._writer.signature(base64.b64encode(digest).decode())

    def _text(self, piece: str) -> bytes:
        frames = self._close_thinking() + self._shown(self._stops.feed(piece))
        if self._stops.matched is not None:
            self.outcome.cut, self.outcome.stop_sequence = "stop_sequence", self._stops.matched
        return frames

    def _shown(self, text: str) -> bytes:
        if text:
            self.outcome.text.append(text)
        return self._writer.text(text)

    def _call(self, function: dict[str, Any]) -> bytes:
        """A call as a tool_use block, or as text where none was allowed; nothing once the answer has been cut."""
        if self.outcome.cut:
            return b""
        name, arguments = str(function.get("name") or ""), function.get("arguments") or {}
        choice = self._prompt.tool_choice
        if choice.kind == "none" or not name:
            return self._text(call_as_text(name, arguments))
        frames = self._close_thinking() + self._shown(self._stops.rest())
        schema = self._prompt.schemas.get(name)
        given = arguments if schema is None else coerce_arguments(arguments, schema)
        self.outcome.calls.append((name, given))
        if not choice.parallel:
            self.outcome.cut = "one_call"
        return frames + self._tool_use(name, orjson.dumps(given).decode())

    def _tool_use(self, name: str, text: str) -> bytes:
        pieces = [text[at : at + INPUT_PIECE] for at in range(0, len(text), INPUT_PIECE)]
        start = self._writer.tool_start(name)
        return start + b"".join(map(self._writer.tool_input, pieces)) + self._writer.close_block()


def call_as_text(name: str, arguments: dict[str, Any]) -> str:
    """A call as the model wrote it, near enough."""
    values = "".join(f"<parameter={key}>\n{_value(value)}\n</parameter>\n" for key, value in arguments.items())
    return f"\n<tool_call>\n<function={name}>\n{values}</function>\n</tool_call>\n"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _parsed(line: bytes) -> dict[str, Any]:
    """Raises ApiError 502 for an error line, and for what is no line of Ollama's."""
    try:
        event = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise ApiError(502, "Ollama sent a line that is not JSON") from None
    if not isinstance(event, dict):
        raise ApiError(502, "Ollama sent a line that is not a JSON object")
    if event.get("error"):
        raise ApiError(502, f"Ollama failed while answering: {event['error']}")
    return event
