"""One generation on its way, and everybody who listens to it.

A flight runs the backend in a task of its own and keeps all frames, so that identical requests join it, a listener that leaves stops
nothing while others stay, and the last one to leave cancels the work upstream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import aclosing
from enum import Enum, auto

from llmhost.backends.base import Backend, Call
from llmhost.core.server_config import Timing
from llmhost.messages.answer import completed_block
from llmhost.messages.errors import ApiError
from llmhost.messages.frames import drop_first_start, is_in

log = logging.getLogger(__name__)

CUT_OFF = "the answer was cut off before its end"


class State(Enum):
    WAITING = auto()  # nothing may be sent yet: every failure still has a status of its own
    OPEN = auto()  # accepted, or the first-bytes time went by
    DONE = auto()
    FAILED = auto()


class Flight:
    """A shared generation. `on_done` is called once, when it ended, however it ended."""

    def __init__(self, call: Call, backend: Backend, timing: Timing, on_done: Callable[[Flight], None]) -> None:
        self.frames: list[bytes] = []
        self.state = State.WAITING
        self.abandoned = False
        self.call = call
        self.error: ApiError | None = None
        loop = asyncio.get_running_loop()
        self._loop_time = loop.time
        self.began = loop.time()
        self.first_frame_at: float | None = None
        self.ended_at: float | None = None
        self._backend = backend
        self._timing = timing
        self._on_done = on_done
        self._listeners: set[Listener] = set()
        self._last_frame = self._last_real = self.began
        self._started_early = False
        self._timer = loop.call_later(timing.first_byte, self._first_bytes_due)
        self._task = loop.create_task(self._run())

    def listen(self) -> Listener:
        """A new listener, from the first frame on."""
        listener = Listener(self)
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """A listener is gone; with the last one the generation ends."""
        self._listeners.discard(listener)
        if not self._listeners and self.ended_at is None:
            self.abandoned = True
            self._task.cancel()

    @property
    def ended(self) -> bool:
        return self.ended_at is not None

    @property
    def joinable(self) -> bool:
        """Whether another listener would still hear the whole answer."""
        return not self.ended and not self.abandoned

    @property
    def seconds(self) -> float:
        return (self.ended_at or self._loop_time()) - self.began

    def block_was_completed(self) -> bool:
        """Whether a content block reached its end: from then on a failure is told by an event, before by hanging up."""
        return completed_block(b"".join(self.frames))

    async def _run(self) -> None:
        error: ApiError | None = ApiError(502, CUT_OFF)
        try:
            async with aclosing(self._backend.generate(self.call)) as frames:  # type: ignore[type-var]
                async for frame in frames:
                    self._take(frame)
            if self._is_complete():
                error = None
        except ApiError as raised:
            error = raised
        except asyncio.CancelledError:
            error = ApiError(499, "nobody is listening any more")
        except Exception as unexpected:
            log.exception("backend %s failed unexpectedly", self._backend.kind)
            error = ApiError(500, f"internal error: {type(unexpected).__name__}")
        finally:
            self._end(error)

    def _take(self, frame: bytes) -> None:
        if self.state is State.WAITING:
            self._open()
        if not frame:
            return
        self._last_real = self._loop_time()
        if self._started_early and not self._backend.translates and is_in("message_start", frame):
            frame = drop_first_start(frame)
        if self.first_frame_at is None and is_in("content_block_start", frame):
            self.first_frame_at = self._last_real
        self._publish(frame)

    def _publish(self, frame: bytes) -> None:
        if not frame:
            return
        self._last_frame = self._loop_time()
        self.frames.append(frame)
        for listener in self._listeners:
            listener.wake()

    def _open(self) -> None:
        self.state = State.OPEN
        self._timer.cancel()
        self._arm(self._timing.ping)

    def _first_bytes_due(self) -> None:
        self._open()
        self._started_early = True
        self._publish(self.call.writer.start())

    def _arm(self, delay: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay, self._ping_if_silent)

    def _ping_if_silent(self) -> None:
        now = self._loop_time()
        due = self._last_frame + self._timing.ping - now
        if due <= 0:
            self._publish(self.call.writer.idle(now - self._last_real))
            due = self._timing.ping
        self._arm(due)

    def _is_complete(self) -> bool:
        if self._backend.translates:
            return self.call.writer.finished
        return is_in("message_stop", b"".join(self.frames[-2:]))

    def _end(self, error: ApiError | None) -> None:
        self._timer.cancel()
        self.ended_at = self._loop_time()
        self.error = error
        self.state = State.FAILED if error else State.DONE
        for listener in self._listeners:
            listener.wake()
        self._on_done(self)


class Listener:
    """One reader of a flight. Use as a context manager, so that leaving is never forgotten."""

    def __init__(self, flight: Flight) -> None:
        self.flight = flight
        self.gone = False
        self._read = 0
        self._waiter: asyncio.Future[None] | None = None

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.flight.leave(self)

    def wake(self) -> None:
        """Something changed: new frames, another state, or the client left."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def hang_up(self) -> None:
        """The client left."""
        self.gone = True
        self.wake()

    async def opened(self) -> None:
        """Wait until bytes may be sent, or it failed, or the client left."""
        while self.flight.state is State.WAITING and not self.gone:
            await self._wait()

    async def ended(self) -> None:
        """Wait for the end, or until the client left."""
        while not self.flight.ended and not self.gone:
            await self._wait()

    async def more(self) -> bytes:
        """All frames not read yet, joined: what piled up goes out in one write. b"" at the end or when the client left."""
        while self._read == len(self.flight.frames) and not self.flight.ended and not self.gone:
            await self._wait()
        frames = self.flight.frames[self._read :]
        self._read += len(frames)
        return frames[0] if len(frames) == 1 else b"".join(frames)

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter
        self._waiter = None
