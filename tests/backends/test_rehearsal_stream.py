"""Time and trouble on request: pace, stalls, failures, broken streams, and leaving early."""

from __future__ import annotations

import asyncio
import time

import pytest

from llmhost.messages.errors import ApiError
from tests.support.rehearsal import answer, call, frames_of, make_backend, request
from tests.support.sse import message_of, parse, text_of


async def arrivals(text: str) -> tuple[list[tuple[float, bytes]], float]:
    """When each chunk came, in seconds, and when the stream ended."""
    began = time.monotonic()
    chunks = [(time.monotonic() - began, frames) async for frames in make_backend().generate(call(request(text)))]
    return chunks, time.monotonic() - began


async def test_words_come_at_the_pace():
    chunks, seconds = await arrivals("@rehearse say a b c d e; pace 40")
    words = [at for at, frames in chunks if b"text_delta" in frames]
    assert len(words) == 5
    assert 0.16 <= seconds < 1
    assert words[0] < 0.04


async def test_without_a_pace_words_come_together_and_fast():
    chunks, seconds = await arrivals("@rehearse words 5000")
    assert len(chunks) < 100
    assert seconds < 2


async def test_a_long_answer_lets_others_work():
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await frames_of(make_backend(), request("@rehearse words 5000"))
    task.cancel()
    assert turns > 20


async def test_a_stall_before_the_first_word_is_before_acceptance():
    stream = make_backend().generate(call(request("@rehearse stall 0.1; say a")))
    began = time.monotonic()
    first = await anext(stream)
    assert time.monotonic() - began >= 0.1
    assert b"message_start" in first
    await stream.aclose()


async def test_an_empty_say_accepts_before_the_stall():
    stream = make_backend().generate(call(request('@rehearse say ""; stall 30; say a')))
    assert b"message_start" in await asyncio.wait_for(anext(stream), 5)
    await stream.aclose()


async def test_a_stall_can_stand_in_the_middle():
    chunks, _ = await arrivals("@rehearse say a; stall 0.1; say b")
    words = [at for at, frames in chunks if b"text_delta" in frames]
    assert words[1] - words[0] >= 0.1


@pytest.mark.parametrize(
    ("status", "type", "retry_after", "should_retry"),
    [
        (429, "rate_limit_error", 1, None),
        (503, "api_error", 1, None),
        (529, "overloaded_error", 1, None),
        (500, "api_error", None, None),
        (401, "authentication_error", None, False),
        (404, "not_found_error", None, None),
    ],
)
async def test_a_failure_has_its_status_before_anything_was_sent(status, type, retry_after, should_retry):
    with pytest.raises(ApiError) as caught:
        await anext(make_backend().generate(call(request(f"@rehearse fail {status}"))))
    error = caught.value
    assert (error.status, error.type, error.retry_after, error.should_retry) == (
        status,
        type,
        retry_after,
        should_retry,
    )
    assert "@rehearse" in error.message


async def test_a_failure_after_words_breaks_the_stream():
    got = []

    async def read() -> None:
        async for frames in make_backend().generate(call(request("@rehearse say a b; fail 529; say c"))):
            got.append(frames)

    with pytest.raises(ApiError):
        await read()
    assert text_of(message_of(parse(b"".join(got)))) == "a b"


@pytest.mark.parametrize(
    ("line", "text", "last"),
    [
        ("say a b c d; cut 2", "a b", "content_block_delta"),
        ("cut 3; say a b; say c d", "a b\nc", "content_block_delta"),
        ("say a b; cut 9", "a b", "content_block_delta"),
        ("say a b; cut 0", "", "message_start"),
        ("think x y; say a; cut 2", "", "content_block_stop"),
    ],
)
async def test_a_cut_ends_the_stream_without_its_end(line, text, last):
    events = parse(await frames_of(make_backend(), request(f"@rehearse {line}")))
    assert text_of(message_of(events)) == text
    assert events[-1][0] == last


async def test_a_cut_inside_a_tool_call_leaves_half_a_json():
    events = parse(await frames_of(make_backend(), request('@rehearse tool Bash {"command": "echo one two"}; cut 2')))
    assert events[-1][0] == "content_block_delta"
    assert message_of(events)["content"][0]["partial_json"] == '{"command":"echo one'


async def test_overflow_is_the_error_that_makes_the_client_compact_until_it_has_done_so():
    backend = make_backend(context=1000)
    with pytest.raises(ApiError) as caught:
        await answer(request("@rehearse overflow; say a"), backend)
    assert caught.value.status == 400
    assert caught.value.message.startswith("prompt is too long: 1")
    assert caught.value.message.endswith("tokens > 1000 maximum")
    summary = {
        "role": "user",
        "content": "This session is being continued from a previous conversation that ran out of context.",
    }
    compacted = {
        "messages": [summary, {"role": "assistant", "content": "ok"}, *request("@rehearse overflow; say a")["messages"]]
    }
    assert text_of(await answer(compacted, backend)) == "a"


@pytest.mark.parametrize("line", ["stall 600", 'say ""; stall 600', "pace 60000; say a b"])
async def test_leaving_ends_the_work_at_once(line):
    stream = make_backend().generate(call(request(f"@rehearse {line}")))

    async def read() -> None:
        async for _ in stream:
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 5)
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
