"""Plays a script: frames at the asked pace. Closing the generator at any await ends it at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

from llmhost.backends.rehearsal.script import Failure, Pause, Script, Speech, Step, ToolCall, signature_of
from llmhost.messages.errors import ApiError
from llmhost.messages.writer import EventWriter

BATCH = 64  # frames handed over together when nothing is to be waited for: about 8 KB
BREAK_S = 0.02  # before a stream breaks off: time for what was said to reach the client, as it would have from a model
RETRY_AFTER_S = 1.0
RETRIED = frozenset({429, 503, 529})


async def play(
    script: Script, writer: EventWriter, usage: dict[str, int], overflow: Callable[[], ApiError]
) -> AsyncIterator[bytes]:
    """The frames of the answer, `message_start` with the first word and the end only if the script is complete.

    Raises ApiError.
    """
    clock = _Clock()
    for step in script.steps:
        if isinstance(step, Pause):
            await clock.pause(step.seconds)
        elif isinstance(step, Failure):
            await asyncio.sleep(BREAK_S if writer.started else 0)
            raise overflow() if step.status is None else failure(step.status)
        else:
            yield writer.start()
            async for frames in _batched(_frames(step, writer), step.pace, clock):
                yield frames
    if script.complete:
        yield writer.finish(script.stop_reason, usage, script.stop_sequence)
    else:
        yield writer.start()
        await asyncio.sleep(BREAK_S)


def failure(status: int) -> ApiError:
    """The error that `fail STATUS` asks for, with the headers a real one would have."""
    return ApiError(
        status,
        f"rehearsed failure: an @rehearse line of the prompt asked for status {status}",
        retry_after=RETRY_AFTER_S if status in RETRIED else None,
        # Claude Code repeats a 401 for a minute unless it is told not to.
        should_retry=False if status == 401 else None,
    )


class _Clock:
    """Keeps the pace over the whole answer: a late word does not make all later ones late."""

    def __init__(self) -> None:
        self._due: float | None = None

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._due = None

    def delay(self, pace: float) -> float:
        """Seconds to wait before the next word."""
        now = asyncio.get_running_loop().time()
        self._due = now if self._due is None else self._due + pace
        return self._due - now


async def _batched(frames: Iterator[bytes], pace: float, clock: _Clock) -> AsyncIterator[bytes]:
    """Frames one by one at the pace; those that are due at the same moment together."""
    ready: list[bytes] = []
    for frame in frames:
        delay = clock.delay(pace) if pace else 0.0
        if delay > 0 or len(ready) >= BATCH:
            if ready:
                yield b"".join(ready)
            ready.clear()
            await asyncio.sleep(max(0.0, delay))
        ready.append(frame)
    if ready:
        yield b"".join(ready)


def _frames(step: Step, writer: EventWriter) -> Iterator[bytes]:
    """One frame for each word."""
    if isinstance(step, Speech):
        say = writer.text if step.kind == "text" else writer.thinking
        yield from (say(piece) for piece in step.pieces)
        if step.kind == "thinking" and step.whole:
            yield writer.signature(signature_of(step.text))
    elif isinstance(step, ToolCall):
        yield writer.tool_start(step.name)
        yield from (writer.tool_input(piece) for piece in step.pieces)
        if step.whole:
            yield writer.close_block()
