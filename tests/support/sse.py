"""Server-sent events of the Messages API, read strictly: what the two real clients need, checked event by event.

`parse` turns bytes into `(event, data)` pairs; `check_order` asserts the protocol; `message_of` folds a stream into the
message that a non-streaming answer would be. Sources: the order Claude Code 2.1.329 and anthropic-python 2.11.0 accept,
and the fields the SDK requires.
"""

from __future__ import annotations

import json
from typing import Any

Event = tuple[str, dict[str, Any]]

BLOCK_FIELDS = {
    "text": {"text": ""},
    "thinking": {"thinking": "", "signature": ""},
    "tool_use": {"input": {}},
}
DELTA_OF_BLOCK = {
    "text": {"text_delta"},
    "thinking": {"thinking_delta", "signature_delta"},
    "tool_use": {"input_json_delta"},
}
DELTA_FIELD = {
    "text_delta": "text",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "partial_json",
}
USAGE_KEYS = {"input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"}
STOP_REASONS = {
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
}


def parse(stream: bytes) -> list[Event]:
    """All events of a stream.

    AssertionError on anything but whole events with one `event` line and one `data` line; comments are allowed.
    """
    assert stream == b"" or stream.endswith(b"\n\n"), f"stream ends inside an event: {stream[-120:]!r}"
    return [event for frame in stream.split(b"\n\n") if (event := _parse_frame(frame)) is not None]


def _parse_frame(frame: bytes) -> Event | None:
    lines = [line for line in frame.decode().split("\n") if line and not line.startswith(":")]
    if not lines:
        return None
    fields = [line.partition(": ") for line in lines]
    assert [name for name, _, _ in fields] == ["event", "data"], f"not one event line and one data line: {frame!r}"
    data = json.loads(fields[1][2])
    assert isinstance(data, dict), f"data is not an object: {frame!r}"
    return fields[0][2], data


def without_pings(events: list[Event]) -> list[Event]:
    """The events that carry something."""
    return [event for event in events if event[0] != "ping"]


def check_order(events: list[Event]) -> None:
    """Assert that this is one whole, well-formed answer."""
    _check_names(events)
    real = without_pings(events)
    assert real, "no events"
    _check_start(real[0])
    assert real[-1] == ("message_stop", {"type": "message_stop"}), f"last event is {real[-1]}"
    _check_message_delta(real[-2])
    _check_blocks(real[1:-2])
    _check_stop_reason(real)


def _check_names(events: list[Event]) -> None:
    for name, data in events:
        assert data.get("type") == name, f"event line {name!r} but type {data.get('type')!r}"


def _check_start(event: Event) -> None:
    name, data = event
    assert name == "message_start", f"first event is {name}"
    message = data["message"]
    assert message["id"].startswith("msg_"), message["id"]
    assert (message["type"], message["role"], message["content"]) == ("message", "assistant", [])
    assert isinstance(message["model"], str)
    assert message["model"]
    assert message["stop_reason"] is None
    assert message["stop_sequence"] is None
    _check_usage(message["usage"])


def _check_usage(usage: dict[str, Any]) -> None:
    assert set(usage) >= USAGE_KEYS, f"usage lacks {USAGE_KEYS - set(usage)}"
    for key in USAGE_KEYS:
        assert isinstance(usage[key], int), f"usage.{key} is {usage[key]!r}"
        assert usage[key] >= 0, f"usage.{key} is {usage[key]!r}"


def _check_message_delta(event: Event) -> None:
    name, data = event
    assert name == "message_delta", f"before message_stop stands {name}"
    assert set(data["delta"]) >= {"stop_reason", "stop_sequence"}, data["delta"]
    reason, sequence = data["delta"]["stop_reason"], data["delta"]["stop_sequence"]
    assert reason in STOP_REASONS, reason
    assert (reason == "stop_sequence") == (sequence is not None), data["delta"]
    _check_usage(data["usage"])


def _check_blocks(events: list[Event]) -> None:
    kind: str | None = None
    count = 0
    for name, data in events:
        if name == "content_block_start":
            assert kind is None, "a block starts inside another"
            kind = _check_block_start(data, count)
        elif name == "content_block_delta":
            assert kind is not None, f"a delta outside of any block: {data}"
            _check_delta(data, count, kind)
        else:
            assert name == "content_block_stop", f"{name} between message_start and message_delta"
            assert kind is not None, "a block stops that never started"
            assert data["index"] == count, f"block {count} stopped as {data['index']}"
            kind, count = None, count + 1
    assert kind is None, "a block was never stopped"


def _check_block_start(data: dict[str, Any], index: int) -> str:
    assert data["index"] == index, f"block {index} started as {data['index']}"
    block = data["content_block"]
    kind: str = block["type"]
    assert kind in BLOCK_FIELDS, kind
    for field, empty in BLOCK_FIELDS[kind].items():
        assert block[field] == empty, f"a {kind} block starts with {field}={block.get(field)!r}"
    if kind == "tool_use":
        assert block["id"].startswith("toolu_"), block["id"]
        assert block["name"]
    return kind


def _check_delta(data: dict[str, Any], index: int, kind: str) -> None:
    assert data["index"] == index, f"delta of block {data['index']} inside block {index}"
    delta = data["delta"]
    assert delta["type"] in DELTA_OF_BLOCK[kind], f"{delta['type']} in a {kind} block"
    assert isinstance(delta[DELTA_FIELD[delta["type"]]], str), delta


def _check_stop_reason(events: list[Event]) -> None:
    message = message_of(events)
    tools = [block for block in message["content"] if block["type"] == "tool_use"]
    assert len({block["id"] for block in tools}) == len(tools), "two tool calls share an id"
    if message["stop_reason"] == "tool_use":
        assert tools, "stop_reason tool_use without a tool call"


def message_of(events: list[Event]) -> dict[str, Any]:
    """The message a non-streaming answer would be.

    Works on a broken stream too: what has come so far, tool input unparsed.
    """
    message: dict[str, Any] = {}
    for name, data in without_pings(events):
        if name == "message_start":
            message = {**data["message"], "content": []}
        elif name == "content_block_start":
            message["content"].append(dict(data["content_block"]))
        elif name == "content_block_delta":
            _add_delta(message["content"][data["index"]], data["delta"])
        elif name == "content_block_stop":
            _finish_block(message["content"][data["index"]])
        elif name == "message_delta":
            message.update(data["delta"])
            message["usage"] = {**message["usage"], **data["usage"]}
    return message


def _add_delta(block: dict[str, Any], delta: dict[str, Any]) -> None:
    field = DELTA_FIELD[delta["type"]]
    block[field] = block.get(field, "") + delta[field]


def _finish_block(block: dict[str, Any]) -> None:
    if block["type"] == "tool_use":
        block["input"] = json.loads(block.pop("partial_json", "") or "{}")


def text_of(message: dict[str, Any]) -> str:
    """The visible text of a message, blocks joined."""
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def tools_of(message: dict[str, Any]) -> list[tuple[str, Any]]:
    """Name and input of each tool call of a message."""
    return [(block["name"], block["input"]) for block in message["content"] if block["type"] == "tool_use"]
