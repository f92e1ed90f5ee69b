"""Who may use Ollama at the moment, where several of its models are ours.

When two models do not fit into memory together, Ollama unloads one for the other, once no request for it is left. Every load therefore
waits until nobody else's request is under way, and whoever comes meanwhile waits behind it: so no request ever queues inside Ollama
behind a load, where a check that it still goes on (`care.py`) could not tell waiting from hanging. Models that are loaded side by side
are used side by side.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

# What was just loaded is used before it may have to go again; else two models that take turns would never answer anybody.
GRACE_S = 2.0


class Guest(Protocol):
    """A model of ours, as the hall knows it. `blob` names its file of weights, "" = not known."""

    blob: str

    @property
    def name(self) -> str | None:
        """As Ollama lists it, once that is known."""

    @property
    def in_memory(self) -> bool:
        """Whether it is loaded, as far as we know."""

    def seen(self, running: list[dict[str, Any]] | None) -> None:
        """What `/api/ps` lists after somebody else was loaded."""


class Hall:
    """One for each Ollama server. `grace_s` seconds: see GRACE_S."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._known: list[Guest] = []
        self._inside: Counter[int] = Counter()
        self._queue: list[Guest] = []
        self._loading: Guest | None = None
        self._fresh: Guest | None = None
        self._moved = asyncio.Event()

    def enter(self, guest: Guest) -> None:
        """There is one more model of ours."""
        self._known.append(guest)

    def leave(self, guest: Guest) -> None:
        self._known.remove(guest)

    def others(self, guest: Guest) -> list[Guest]:
        return [one for one in self._known if one is not guest]

    def is_crowded(self, guest: Guest) -> bool:
        """Whether another model of ours is in memory, or about to be: then it is why `guest` may not be."""
        return any(one.in_memory or one is self._loading for one in self.others(guest))

    def is_queueing(self, guest: Guest) -> bool:
        """Whether its load waits for others to be done, as a request would in Ollama's own queue."""
        return guest in self._queue

    @asynccontextmanager
    async def using(self, guest: Guest) -> AsyncIterator[None]:
        """A block in which Ollama has a request for the model. Begins when no load is under way, nor waits for others' requests to end.

        The model may have been unloaded meanwhile: look again inside.
        """
        await self._until(
            lambda: self._loading is None and (guest is self._fresh or not self._somebody_else_waits(guest))
        )
        async with self._counted(guest):
            yield

    @asynccontextmanager
    async def checking(self, guest: Guest) -> AsyncIterator[None]:
        """The same for a check whether Ollama goes on: it does not wait for those who wait, for it may be what they wait for."""
        await self._until(lambda: self._loading is None)
        async with self._counted(guest):
            yield

    @asynccontextmanager
    async def loading(self, guest: Guest) -> AsyncIterator[None]:
        """The block in which the model is loaded: nobody else's request is under way in it."""
        self._queue.append(guest)
        try:
            await self._until(lambda: self._queue[0] is guest and self._is_free_for(guest))
            self._loading = guest
        finally:
            self._queue.remove(guest)
            self._tell()
        try:
            yield
            self._keep_fresh(guest)
        finally:
            self._loading = None
            self._tell()

    def saw(self, guest: Guest, running: list[dict[str, Any]] | None) -> None:
        """What is in memory after `guest` was loaded: whoever had to go learns it at once."""
        for one in self.others(guest):
            one.seen(running)

    def _somebody_else_waits(self, guest: Guest) -> bool:
        return any(one is not guest for one in self._queue)

    def _is_free_for(self, guest: Guest) -> bool:
        others_inside = any(count for who, count in self._inside.items() if who != id(guest))
        return self._loading is None and not others_inside and self._fresh in (None, guest)

    def _keep_fresh(self, guest: Guest) -> None:
        if not self.others(guest):
            return
        self._fresh = guest
        asyncio.get_running_loop().call_later(self._grace_s, self._no_longer_fresh, guest)

    def _no_longer_fresh(self, guest: Guest) -> None:
        if self._fresh is guest:
            self._fresh = None
            self._tell()

    @asynccontextmanager
    async def _counted(self, guest: Guest) -> AsyncIterator[None]:
        self._inside[id(guest)] += 1
        try:
            yield
        finally:
            self._inside[id(guest)] -= 1
            self._tell()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._moved.wait()

    def _tell(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()
