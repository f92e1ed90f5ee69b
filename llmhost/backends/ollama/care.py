"""What is done when an answer ended before its end: making sure that Ollama still goes on, and bringing it back if not.

Ollama (0.24.0, and later ones: its issue 17825) answers with two goroutines, one that reads pieces from the engine and one that writes them
to the client, with an unbuffered channel between. When the writer ends first, the reader blocks on its next piece for good and keeps the
model's slot: every later request hangs, while `/api/ps` looks healthy. The writer ends first when

- the client leaves in the middle of a streamed answer, from the moment Ollama has the first piece on (1 of 100 leaves here);
- the model's call of a tool cannot be parsed, streamed or not: the writer reports the error and ends, the reader does not (1 of 14).

So after every end that is not an answer's own, Ollama is *knocked at*: it is asked for something that it can refuse only once it holds the
slot, but without its engine. That takes milliseconds and leaves the engine's cache alone, whatever the engine may be reading at the
moment. New requests wait until the knock was answered. When it is not, requests whose answer has not begun are called back, since they may
be what it queues behind, and since their queueing would keep the model from being unloaded; if the next knock is not answered either,
the model is loaded anew.

Each model has a slot of its own, and so a care of its own. One that was unloaded to make room for another has lost its slot, and with it
whatever hung in there.

An Ollama that hangs for a reason nobody here has seen (another client of its has left) is found the same way, by a request whose answer
does not begin for a long time while nobody else is being served.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from llmhost.backends.http import Upstream, UpstreamError
from llmhost.backends.ollama.codec import LoadedModel
from llmhost.backends.ollama.engine import LOADING_RETRY_S, Engine
from llmhost.backends.ollama.hall import Hall
from llmhost.backends.ollama.knock import KNOCK_PATH, can_be_knocked, knock
from llmhost.messages.errors import overloaded

PROBE_S = 15.0  # for what takes milliseconds, on a machine that may be swapping
CLOSE_S = 20.0  # for a knock, and an unload


class CalledBack(Exception):
    """The request was taken back before its answer began; it is to be put to Ollama once more."""


@dataclass(eq=False, slots=True)
class Asked:
    """One request that Ollama has. `silent` until its answer begins, which makes it doubtful after `patience` s (None: never)."""

    patience: float | None = None
    limit: asyncio.Timeout | None = None
    timer: asyncio.TimerHandle | None = None
    silent: bool = True
    called_back: bool = False

    def end(self) -> None:
        """Ends the request's block with TimeoutError."""
        if self.limit is not None and not self.limit.expired():  # it may be ending already
            self.limit.reschedule(asyncio.get_running_loop().time())


class Care:
    """Knows the requests Ollama has, and whether it is certain that Ollama goes on. Seconds: `probe_s` for a knock to be answered,
    `hold_s` at most that a request waits for certainty, `close_s` at most for `aclose`."""

    def __init__(
        self,
        upstream: Upstream,
        engine: Engine,
        hall: Hall,
        *,
        probe_s: float = PROBE_S,
        hold_s: float,
        close_s: float = CLOSE_S,
    ) -> None:
        self.asked: set[Asked] = set()
        self._upstream = upstream
        self._engine = engine
        self._hall = hall
        self._probe_s = probe_s
        self._hold_s = hold_s
        self._close_s = close_s
        self._certain = asyncio.Event()
        self._certain.set()
        self._moved = asyncio.Event()
        self._doubts = 0
        self._served_since = False
        self._task: asyncio.Task[None] | None = None

    @property
    def certain(self) -> bool:
        return self._certain.is_set()

    async def certainty(self) -> None:
        """Returns once it is certain that Ollama goes on. Raises ApiError 529 when that takes long and nobody is being served."""
        while not self.certain:
            try:
                async with asyncio.timeout(self._hold_s):
                    await self._certain.wait()
            except TimeoutError:
                if self._is_serving():
                    continue  # as in Ollama's own queue
                message = "Ollama hangs after an answer that ended early, and is being brought back"
                raise overloaded(message, LOADING_RETRY_S) from None

    @asynccontextmanager
    async def asking(self, asked: Asked) -> AsyncIterator[None]:
        """The block in which Ollama has the request. Ends with TimeoutError when it is taken back, or Ollama is gone."""
        async with asyncio.timeout(None) as asked.limit:
            self.asked.add(asked)
            self._wait_for(asked)
            try:
                yield
            finally:
                self._heard_of(asked)
                self.asked.discard(asked)
                self._moved.set()

    def begun(self, asked: Asked) -> None:
        """The headers of the answer are there."""
        if asked.called_back:
            raise CalledBack
        asked.silent = False
        self._served_since = True
        self._heard_of(asked)

    def give_up(self) -> None:
        """Ollama is gone: a frozen one would never end an answer itself."""
        for asked in self.asked:
            asked.end()

    def doubt(self) -> None:
        """An answer has ended early: hold new requests until it is certain that Ollama goes on."""
        self._doubts += 1
        self._served_since = False
        self._certain.clear()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._make_certain())

    async def aclose(self) -> None:
        """Whoever uses this Ollama next should not find it hanging; but an end does not wait for ever."""
        task = self._task
        if task is None or task.done():
            return
        if self._engine.loaded is not None:
            await asyncio.wait({task}, timeout=self._close_s)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    def _is_serving(self) -> bool:
        return any(not asked.silent for asked in self.asked)

    def _wait_for(self, asked: Asked) -> None:
        if asked.patience is not None:
            asked.timer = asyncio.get_running_loop().call_later(asked.patience, self._is_late, asked)

    def _heard_of(self, asked: Asked) -> None:
        if asked.timer is not None:
            asked.timer.cancel()

    def _is_late(self, asked: Asked) -> None:
        if self._is_serving():  # it is not this one's turn yet
            self._wait_for(asked)
        else:
            self.doubt()

    async def _make_certain(self) -> None:
        try:
            resolved = 0
            while resolved != self._doubts:
                resolved = self._doubts
                while not await self._answers():
                    if self._served_since:
                        break  # somebody who came later was served: the slot was given back
                    await self._clear_the_way()
        finally:
            self._certain.set()

    async def _answers(self) -> bool:
        """Whether Ollama lets go of its slot. Waits while the model is not loaded, unless nobody wants it to be: its slot is gone then."""
        while await self._engine.once_loaded() is not None:
            async with self._hall.checking(self._engine):
                model = self._engine.loaded  # another one may have been loaded in its place while we waited
                if model is not None:
                    return await self._is_let_in(model)
        return True

    async def _is_let_in(self, model: LoadedModel) -> bool:
        if not can_be_knocked(model):
            return True
        try:
            await self._upstream.json("POST", KNOCK_PATH, knock(model), timeout=self._probe_s)
        except UpstreamError as error:
            if error.timed_out:
                return False
            if error.status is None:
                self._engine.suspect()
        return True

    async def _clear_the_way(self) -> None:
        """One step towards a knock that nothing but a hanging Ollama can leave unanswered; then the remedy."""
        silent = [asked for asked in self.asked if asked.silent and not asked.called_back]
        for asked in silent:
            asked.called_back = True
            asked.end()
        if silent:
            return
        if self.asked:  # these have their own slots, and are being served; nobody new is let in meanwhile
            self._moved.clear()
            await self._moved.wait()
            return
        self._engine.restart("it hangs after an answer that ended early")
