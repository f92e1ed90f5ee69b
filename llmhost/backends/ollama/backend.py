"""Backend `ollama`: requests of the Messages API, answered by an Ollama server.

One of its models is the main one: it is kept loaded, and answers whatever does not name another. Any other that is installed answers what
names it, loaded on demand beside the main one, or, where memory has not room for both, in its place for as long as nobody asks for the
main one. Each has a window, an identity and books of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

from llmhost.backends.base import BackendHealth, Call, ModelInfo, PrefixReuse
from llmhost.backends.http import Upstream
from llmhost.backends.ollama import catalog
from llmhost.backends.ollama.codec_chat import ChatCodec
from llmhost.backends.ollama.drafts import first_guess
from llmhost.backends.ollama.hall import Hall
from llmhost.backends.ollama.one_model import OneModel
from llmhost.backends.ollama.pace import Pace
from llmhost.backends.ollama.shelf import Shelf
from llmhost.core.server_config import BackendConfig, Timing
from llmhost.messages.documents import PdfShelf
from llmhost.messages.errors import model_unknown

log = logging.getLogger(__name__)

# Beside the main one. Each is looked at every few seconds; of more, those that are not in memory and not asked for are let go of.
OTHERS_KEPT = 4


class OllamaBackend:
    """See `llmhost.backends.base.Backend`. `pace`: seconds, see `Pace`."""

    kind = "ollama"
    translates = True

    def __init__(self, config: BackendConfig, timing: Timing, **pace: float) -> None:
        if not config.url:
            raise ValueError("backend ollama needs Ollama's url")
        self.node_id = config.node_id
        self._config = config
        self._pace = Pace(**pace)
        self._upstream = Upstream(config.url, config.token)
        self._hall = Hall(self._pace.grace_s)
        self._pdfs = PdfShelf()
        self._shelf = Shelf(self._upstream, config, ChatCodec.name)
        self._main = self._one(config, standing=True)
        self._others: dict[str, OneModel] = {}  # by full name, the one asked for last at the end
        self._left = PrefixReuse()  # of those that were let go of
        self._work: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._main.begin()
        self._keep(asyncio.create_task(self._shelf.watch(self._pace.poll_s)))

    async def aclose(self) -> None:
        for task in list(self._work):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await asyncio.gather(*(one.aclose() for one in (self._main, *self._others.values())))
        await self._upstream.aclose()

    @property
    def reuse(self) -> PrefixReuse:
        parts = [self._left, self._main.reuse, *(one.reuse for one in self._others.values())]
        return PrefixReuse(sum(part.prompt_tokens for part in parts), sum(part.reused_tokens for part in parts))

    def model(self) -> ModelInfo | None:
        known = self._main.model()
        on_disk = self._shelf.find(known.id) if known else None
        return self._latest(self._main, on_disk) if on_disk else known

    def models(self) -> list[ModelInfo]:
        main = self.model()
        if main is None:
            return []
        others = [self._as_loaded(info) for info in self._shelf.models()]
        return [main, *sorted((info for info in others if info.id != main.id), key=lambda info: info.id)]

    def find(self, name: str) -> ModelInfo | None:
        main = self.model()
        if main is not None and catalog.is_same(main.id, name):
            return main
        found = self._shelf.find(name)
        return self._as_loaded(found) if found else None

    async def look_up(self, name: str) -> ModelInfo | None:
        if self.find(name) is None:
            await self._shelf.refresh()
        return self.find(name)

    def health(self) -> BackendHealth:
        return self._main.health()

    def estimate(self, body: dict[str, Any], model: str | None = None) -> int:
        one = self._known(model)
        return one.estimate(body) if one else first_guess(body)

    async def count_tokens(self, body: dict[str, Any], model: str | None = None) -> tuple[int, bool]:
        """Exact for a prompt that Ollama has counted; it has no endpoint that counts without reading, so else an estimate."""
        one = self._known(model)  # a count is no reason to load anything
        return await one.count_tokens(body) if one else (first_guess(body), False)

    async def generate(self, call: Call) -> AsyncIterator[bytes]:
        """The frames of one answer, by the model that the call names."""
        one = self._main if call.model is None else await self._named(call.model)
        async with aclosing(one.generate(call)) as frames:  # type: ignore[type-var]
            async for frame in frames:
                yield frame

    async def _named(self, name: str) -> OneModel:
        """Raises ApiError 404 for what is not installed, and what the main model raises while Ollama is not there."""
        if not self._shelf.known or self._main.name is None:
            await self._main.once_ready()  # for which Ollama has to be there, and to have a model
        found = await self.look_up(name)
        known = self._known(name)  # only now: of several that come at once, the first may have made it
        if found is None:
            if known is not None and known is not self._main:
                self._let_go(known)
            main = self.model()
            raise model_unknown(name, main.id if main else None)
        return known or self._another(found.id)

    def _known(self, name: str | None) -> OneModel | None:
        if name is None or (self._main.name and catalog.is_same(self._main.name, name)):
            return self._main
        return self._others.get(catalog.full_name(name).casefold())

    def _another(self, name: str) -> OneModel:
        for idle in [one for one in self._others.values() if one.is_idle][
            : max(0, len(self._others) + 1 - OTHERS_KEPT)
        ]:
            self._let_go(idle)
        log.info("%s is asked for beside %s", name, self._main.name)
        one = self._one(replace(self._config, model=name), standing=False)
        self._others[catalog.full_name(name).casefold()] = one
        one.begin()
        return one

    def _one(self, config: BackendConfig, *, standing: bool) -> OneModel:
        return OneModel(self._upstream, config, self._hall, self._pdfs, self._pace, standing=standing)

    def _let_go(self, one: OneModel) -> None:
        self._others = {name: other for name, other in self._others.items() if other is not one}
        self._left.prompt_tokens += one.reuse.prompt_tokens
        self._left.reused_tokens += one.reuse.reused_tokens
        self._keep(asyncio.create_task(one.aclose()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def _as_loaded(self, info: ModelInfo) -> ModelInfo:
        """With the window that memory gives it, or gave it last."""
        one = self._known(info.id)
        return self._latest(one, info) if one else info

    @staticmethod
    def _latest(one: OneModel, on_disk: ModelInfo) -> ModelInfo:
        """While it is away another version may have been pulled, which will be loaded then."""
        known = one.model()
        is_it = known is not None and (one.loaded() is not None or known.identity == on_disk.identity)
        return known if known is not None and is_it else on_disk
