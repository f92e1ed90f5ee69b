"""The checker has to refuse what the real clients refuse, or every test that leans on it proves nothing."""

from __future__ import annotations

import copy

import pytest

from llmhost.messages.writer import EventWriter, sse, usage
from tests.support.sse import check_order, message_of, parse, text_of, tools_of


def stream() -> bytes:
    writer = EventWriter("m", 7)
    frames = [
        writer.start(),
        writer.idle(0),
        writer.thinking("hm"),
        writer.signature("sig"),
        writer.text("a"),
        writer.text("b"),
    ]
    frames += [writer.tool("Bash", {"command": "ls"}), writer.finish("tool_use", usage(7, 3))]
    return b"".join(frames)


def test_a_whole_answer_passes_and_folds_into_a_message():
    events = parse(b": comment\n\n" + stream())
    check_order(events)
    message = message_of(events)
    assert text_of(message) == "ab"
    assert tools_of(message) == [("Bash", {"command": "ls"})]
    assert message["content"][0] == {"type": "thinking", "thinking": "hm", "signature": "sig"}
    assert (message["stop_reason"], message["usage"]["output_tokens"]) == ("tool_use", 3)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda events: events[2:], "first event"),
        (lambda events: events[:-1], "last event"),
        (lambda events: [e for e in events if e[0] != "content_block_stop"], "a block starts inside another"),
        (lambda events: [e for e in events if e[0] != "content_block_start"], "outside of any block"),
        (lambda events: [*events[:3], events[2], *events[3:]], "a block starts inside another"),
        (lambda events: [e for e in events if e[0] != "message_delta"], "before message_stop"),
        (lambda events: [*events, events[-1]], "before message_stop"),
    ],
)
def test_missing_or_misplaced_events_are_refused(damage, complaint):
    events = damage(parse(stream()))
    with pytest.raises(AssertionError, match=complaint):
        check_order(events)


@pytest.mark.parametrize(
    ("event", "path", "value"),
    [
        ("message_start", ("message", "usage"), {"input_tokens": 1}),
        ("message_start", ("message", "id"), "1"),
        ("content_block_start", ("content_block",), {"type": "thinking", "thinking": ""}),
        ("content_block_start", ("index",), 1),
        ("content_block_delta", ("delta",), {"type": "text_delta", "text": "x"}),
        ("message_delta", ("delta", "stop_reason"), "done"),
        ("message_delta", ("delta", "stop_sequence"), "x"),
        ("message_delta", ("usage", "output_tokens"), None),
    ],
)
def test_wrong_fields_are_refused(event, path, value):
    events = copy.deepcopy(parse(stream()))
    data = next(data for name, data in events if name == event)
    for step in path[:-1]:
        data = data[step]
    data[path[-1]] = value
    with pytest.raises((AssertionError, KeyError)):
        check_order(events)


@pytest.mark.parametrize(
    "frames", [b"data: {}\n\n", b"event: ping\n\n", stream()[:-1], b"event: a\nevent: b\ndata: {}\n\n"]
)
def test_what_is_not_a_whole_event_is_refused(frames):
    with pytest.raises(AssertionError):
        parse(frames)


def test_a_name_that_contradicts_the_type_is_refused():
    with pytest.raises(AssertionError, match="event line"):
        check_order(parse(sse({"type": "ping"}).replace(b"event: ping", b"event: pong")))
