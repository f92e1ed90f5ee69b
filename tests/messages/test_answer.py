"""An answer survives being streamed, kept and played back."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.messages.answer import Answer, IncompleteAnswer, answer_of, assemble
from llmhost.messages.frames import FrameSplitter, drop_first_start
from llmhost.messages.writer import PING, EventWriter, usage
from tests.support.sse import check_order, parse

blocks = st.one_of(
    st.builds(lambda t: {"type": "text", "text": t}, st.text(min_size=1, max_size=300)),
    st.builds(
        lambda n, i: {"type": "tool_use", "id": "toolu_x", "name": n, "input": i},
        st.sampled_from(["Bash", "Read"]),
        st.dictionaries(st.text(max_size=5), st.text(max_size=200) | st.integers(-5, 5), max_size=3),
    ),
)


def stripped(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in block.items() if key != "id"} for block in content]


@given(st.lists(blocks, min_size=1, max_size=4))
def test_replayed_answer_is_the_same_in_a_valid_stream(content: list[dict[str, Any]]) -> None:
    answer = Answer(content, "end_turn", None, usage(3, 4, 5), 1.5)
    kept = Answer.load(answer.dump())
    assert kept is not None
    frames = kept.frames("claude-x")
    check_order(parse(frames))
    message = assemble(frames)
    assert stripped(message["content"]) == stripped(content)
    assert (message["stop_reason"], message["usage"], message["model"]) == ("end_turn", usage(3, 4, 5), "claude-x")


def test_every_replay_has_ids_of_its_own() -> None:
    answer = Answer([{"type": "tool_use", "id": "toolu_x", "name": "Bash", "input": {}}], "tool_use", None, usage(1, 1))
    first, second = answer.message("m"), assemble(answer.frames("m"))
    assert first["id"] != second["id"]
    assert len({"toolu_x", first["content"][0]["id"], second["content"][0]["id"]}) == 3


def test_damaged_entry_is_no_answer() -> None:
    dumped = Answer([{"type": "text", "text": "x"}], "end_turn", None, usage(1, 1)).dump()
    assert Answer.load(dumped[:-2]) is None
    assert Answer.load(b"[9,1,2,3,4,5]") is None


def test_stream_without_its_end_is_incomplete() -> None:
    writer = EventWriter("m")
    frames = writer.start() + writer.text("half an answ")
    with pytest.raises(IncompleteAnswer):
        answer_of(frames)


def test_thinking_then_text_then_tools() -> None:
    writer = EventWriter("m", 10)
    frames = b"".join(
        [
            writer.start(),
            writer.thinking("hm"),
            writer.signature("sig"),
            writer.text("I will "),
            writer.text("look."),
            writer.tool("Read", {"file_path": "/a"}),
            writer.tool("Read", {"file_path": "/b"}),
            writer.finish("tool_use", usage(7, 9)),
        ]
    )
    check_order(parse(frames))
    content = assemble(frames)["content"]
    assert [block["type"] for block in content] == ["thinking", "text", "tool_use", "tool_use"]
    assert content[0]["signature"] == "sig"
    assert content[1]["text"] == "I will look."
    assert [block["input"]["file_path"] for block in content[2:]] == ["/a", "/b"]


def test_heartbeat_during_a_long_prefill_leaves_no_trace() -> None:
    writer = EventWriter("m", 10, heartbeat_s=240)
    frames = [writer.start(), writer.idle(10), writer.idle(250), writer.idle(260)]
    assert frames[1] == PING
    assert b"text_delta" in frames[2]
    frames += [writer.tool("Read", {}), writer.finish("tool_use", usage(1, 1))]
    check_order(parse(b"".join(frames)))
    assert [block["type"] for block in assemble(b"".join(frames))["content"]] == ["tool_use"]


def test_heartbeat_block_becomes_the_answer_s_own() -> None:
    writer = EventWriter("m", 10, heartbeat_s=240)
    frames = [writer.start(), writer.idle(250), writer.text("late"), writer.finish("end_turn", usage(1, 1))]
    check_order(parse(b"".join(frames)))
    assert assemble(b"".join(frames))["content"] == [{"type": "text", "text": "late"}]


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_splitter_cuts_only_between_events(cuts: list[int]) -> None:
    frames = Answer([{"type": "text", "text": "word " * 60}], "end_turn", None, usage(1, 1)).frames("m")
    splitter, out, position = FrameSplitter(), [], 0
    for size in [*cuts, len(frames)]:
        out.append(splitter.feed(frames[position : position + size]))
        position += size
    assert b"".join(out) == frames
    assert all(not piece or piece.endswith(b"\n\n") for piece in out)
    assert not splitter.pending


def test_splitter_tells_of_a_broken_event() -> None:
    splitter = FrameSplitter()
    splitter.feed(b"event: ping\ndata: {}\n\nevent: mess")
    assert splitter.pending


def test_second_message_start_is_dropped() -> None:
    writer = EventWriter("m")
    frames = writer.start() + PING + writer.text("x")
    assert assemble(
        writer.start() + EventWriter("m").start() + drop_first_start(frames) + writer.finish("end_turn", usage(1, 1))
    )["content"] == [{"type": "text", "text": "x"}]
