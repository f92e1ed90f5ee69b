"""A complete answer: read from a stream, kept, and played back as a stream or as one message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from llmhost.messages.ids import message_id, tool_use_id
from llmhost.messages.writer import EventWriter

REPLAY_PIECE = 80  # characters in one delta of a replay: a few tokens, as a live stream would carry


class IncompleteAnswer(ValueError):
    """The frames do not make a whole message."""


@dataclass(slots=True)
class Answer:
    """What a request was answered with, free of ids and of the name the client called the model by. `seconds` = what it took to make."""

    content: list[dict[str, Any]]
    stop_reason: str
    stop_sequence: str | None
    usage: dict[str, Any]
    seconds: float = 0.0

    def dump(self) -> bytes:
        return orjson.dumps([1, self.content, self.stop_reason, self.stop_sequence, self.usage, round(self.seconds, 3)])

    @classmethod
    def load(cls, data: bytes) -> Answer | None:
        """What `dump` wrote, or None when it is not that (another version, or damage): then it is simply a miss."""
        try:
            version, content, stop_reason, stop_sequence, usage, seconds = orjson.loads(data)
        except (orjson.JSONDecodeError, ValueError, TypeError):
            return None
        return cls(content, stop_reason, stop_sequence, usage, seconds) if version == 1 else None

    def message(self, model: str) -> dict[str, Any]:
        """The non-streaming form, with fresh ids."""
        return {
            "id": message_id(),
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [_with_fresh_id(block) for block in self.content],
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "usage": self.usage,
        }

    def frames(self, model: str) -> bytes:
        """The streaming form, with fresh ids, in events like those of a live answer."""
        prompt = sum(self.usage.get(name) or 0 for name in _PROMPT_TOKENS)
        writer = EventWriter(model, prompt)
        parts = [writer.start()]
        for block in self.content:
            parts.extend(_replay(writer, block))
            parts.append(writer.close_block())
        parts.append(writer.finish(self.stop_reason, self.usage, self.stop_sequence))
        return b"".join(parts)

    def total_tokens(self) -> int:
        """Prompt and answer together: what a cache hit saves."""
        return sum(self.usage.get(name) or 0 for name in (*_PROMPT_TOKENS, "output_tokens"))


_PROMPT_TOKENS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def assemble(frames: bytes) -> dict[str, Any]:
    """The message that a whole stream adds up to, ids and model included. Raises IncompleteAnswer."""
    try:
        return _assemble(frames)
    except (KeyError, TypeError) as error:
        raise IncompleteAnswer("the stream holds an event of an unexpected shape") from error


def _assemble(frames: bytes) -> dict[str, Any]:
    message: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    inputs: dict[int, list[str]] = {}
    stopped = False
    for event in events(frames):
        kind = event.get("type")
        if kind == "content_block_delta":
            _apply_delta(blocks[event["index"]], event["delta"], inputs.setdefault(event["index"], []))
        elif kind == "content_block_start":
            blocks[event["index"]] = dict(event["content_block"])
        elif kind == "message_start":
            message = dict(event["message"])
        elif kind == "message_delta":
            message.update(event["delta"])
            message["usage"] = {**message.get("usage", {}), **event.get("usage", {})}
        elif kind == "message_stop":
            stopped = True
    if not message or not stopped:
        raise IncompleteAnswer("the stream ended before message_stop")
    for index, pieces in inputs.items():
        _finish_block(blocks[index], pieces)
    message["content"] = [block for _, block in sorted(blocks.items()) if not _is_empty(block)]
    return message


def answer_of(frames: bytes, seconds: float = 0.0) -> Answer:
    """The same as an `Answer`. Raises IncompleteAnswer."""
    message = assemble(frames)
    return Answer(message["content"], message["stop_reason"], message.get("stop_sequence"), message["usage"], seconds)


def completed_block(frames: bytes) -> bool:
    """Whether a content block with something in it reached its end (what a heartbeat opened is empty and does not count)."""
    filled: set[int] = set()
    for event in events(frames):
        kind, index = event.get("type"), event.get("index", -1)
        if _has_content(event):
            filled.add(index)
        elif kind == "content_block_stop" and index in filled:
            return True
    return False


def _has_content(event: dict[str, Any]) -> bool:
    if event.get("type") == "content_block_start":
        return bool(event["content_block"].get("type") == "tool_use")
    return any(value for name, value in event.get("delta", {}).items() if name != "type") and "index" in event


def events(frames: bytes) -> Iterator[dict[str, Any]]:
    """The data of each event, pings included. Raises IncompleteAnswer on data that is not JSON."""
    for frame in frames.split(b"\n\n"):
        start = frame.find(b"data: ")
        if start < 0:
            continue
        try:
            yield orjson.loads(frame[start + 6 :])
        except orjson.JSONDecodeError as error:
            raise IncompleteAnswer("the stream holds an event that is not JSON") from error


def _apply_delta(block: dict[str, Any], delta: dict[str, Any], pieces: list[str]) -> None:
    kind = delta["type"]
    if kind == "text_delta":
        pieces.append(delta["text"])
    elif kind == "input_json_delta":
        pieces.append(delta["partial_json"])
    elif kind == "thinking_delta":
        pieces.append(delta["thinking"])
    elif kind == "signature_delta":
        block["signature"] = delta["signature"]


def _finish_block(block: dict[str, Any], pieces: list[str]) -> None:
    whole = "".join(pieces)
    if block["type"] == "tool_use":
        try:
            block["input"] = orjson.loads(whole) if whole else {}
        except orjson.JSONDecodeError as error:
            raise IncompleteAnswer("a tool call's input is not JSON") from error
    elif block["type"] in ("text", "thinking"):
        block[block["type"]] += whole


def _is_empty(block: dict[str, Any]) -> bool:
    return block["type"] == "text" and not block["text"]


def _with_fresh_id(block: dict[str, Any]) -> dict[str, Any]:
    return {**block, "id": tool_use_id()} if block["type"] == "tool_use" else block


def _replay(writer: EventWriter, block: dict[str, Any]) -> Iterator[bytes]:
    kind = block["type"]
    if kind == "text":
        yield from (writer.text(piece) for piece in _pieces(block["text"]))
    elif kind == "thinking":
        yield from (writer.thinking(piece) for piece in _pieces(block["thinking"]))
        if block.get("signature"):
            yield writer.signature(block["signature"])
    elif kind == "tool_use":
        yield writer.tool_start(block["name"])
        yield from (writer.tool_input(piece) for piece in _pieces(orjson.dumps(block["input"]).decode()))


def _pieces(text: str) -> Iterator[str]:
    return (text[at : at + REPLAY_PIECE] for at in range(0, len(text), REPLAY_PIECE))
