"""Watching one model of an Ollama: waits for it, loads the model, keeps it loaded, and knows at any moment how things stand.

Where several models are ours, one may have to make room for another. It is *away* then: known and in order, and loaded again when a request
asks for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, NoReturn

from llmhost.backends.base import BackendHealth
from llmhost.backends.http import Upstream, UpstreamError
from llmhost.backends.ollama import catalog
from llmhost.backends.ollama.codec import LoadedModel
from llmhost.backends.ollama.failures import gone
from llmhost.backends.ollama.hall import Hall
from llmhost.backends.ollama.listing import entry_of, is_named, loaded_model, weights_of
from llmhost.backends.ollama.server import UNLOAD_S, ModelMissing, Server
from llmhost.core.server_config import BackendConfig
from llmhost.messages.errors import ApiError, model_unknown, overloaded, unavailable

log = logging.getLogger(__name__)

POLL_S = 5.0
RETRY_S = 1.0
LOOK_S = 5.0  # an answer that takes longer is a miss
MISSES = 3  # looks without an answer in time after which Ollama counts as gone
GRACE_S = 20.0  # an Ollama started together with us needs a while before it answers
UNLOAD_POLL_S = 0.1
HOLD_S = 60.0
LOADING_RETRY_S = 10.0


class Engine:
    """One model of an Ollama server. `on_reload` is called whenever the engine's cache has become empty.

    `standing` = it is kept loaded, room provided; another one is loaded only when a request asks for it.
    """

    def __init__(
        self,
        upstream: Upstream,
        config: BackendConfig,
        on_reload: Callable[[], None],
        on_lost: Callable[[], None],
        *,
        hall: Hall | None = None,
        standing: bool = True,
        poll_s: float = POLL_S,
        look_s: float = LOOK_S,
        hold_s: float = HOLD_S,
    ) -> None:
        self.loaded: LoadedModel | None = None
        self.away = False
        self.blob = ""
        self.health = BackendHealth(
            "starting", f"waiting for Ollama at {upstream.base}", {"ollama": "starting"}, retry_after=2
        )
        self._server = Server(upstream, look_s)
        self._config = config
        self._on_reload = on_reload
        self._on_lost = on_lost
        self._hall = hall or Hall()
        self._hall.enter(self)
        self._standing = standing
        self._wanted = standing
        self._known: LoadedModel | None = None
        self._ask_again_at = 0.0
        self._missed = 0
        self._poll_s = poll_s
        self._hold_s = hold_s
        self._weights: list[Any] = []
        self._unwanted: str | None = None  # the model that is to be unloaded before it is loaded again
        self._failure: ApiError | None = None
        self._reached = False
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()

    @property
    def current(self) -> LoadedModel | None:
        """The model as it is loaded, or as it would be again."""
        return self._known if self.away else self.loaded

    @property
    def name(self) -> str | None:
        return self._known.name if self._known else self._config.model

    @property
    def in_memory(self) -> bool:
        return self.loaded is not None

    def close(self) -> None:
        """It is none of ours any more: whoever waits for it is let go."""
        self._hall.leave(self)
        self._ask_again_at = float("inf")
        self._set(self.health, unavailable(f"{self.name} is not served any more", RETRY_S))

    async def run(self) -> NoReturn:
        """Watch for ever."""
        started = asyncio.get_running_loop().time()
        while True:
            pause = self._poll_s
            try:
                await self._look()
            except ModelMissing as error:
                self._fail(str(error), model_unknown(self._config.model or catalog.PREFERRED, None), "ok")
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                # Not Ollama, or one of a later shape: the watch must outlive it, or nobody would ever look again.
                log.exception("ollama's answer was not understood")
                reason = f"what answers at {self._server.upstream.base} does not speak Ollama's API ({error})"
                self._fail(reason, unavailable(reason, LOADING_RETRY_S), "failed")
            except UpstreamError as error:
                pause = min(RETRY_S, self._poll_s) if error.status is None else self._poll_s
                self._missed += 1
                if error.timed_out and self.loaded and self._missed < MISSES:
                    pass  # busy with a prefill on the CPU, or swapping: it still works on what it was given
                elif self._reached or asyncio.get_running_loop().time() - started > GRACE_S:
                    self._unreachable(error)
            await self._sleep(pause)

    async def model(self) -> LoadedModel:
        """The loaded model; while it is loading the caller is held. Raises ApiError: 503 gone, 529 still loading, 404 no such model."""
        now = asyncio.get_running_loop().time
        deadline = now() + self._hold_s
        while self.loaded is None:
            self._want()
            if self._failure is not None:
                raise self._failure
            changed = self._changed
            try:
                async with asyncio.timeout_at(deadline):
                    await changed.wait()
            except TimeoutError:
                if not self._hall.is_queueing(self):
                    raise overloaded(f"The model is not ready yet: {self.health.detail}", LOADING_RETRY_S) from None
                deadline = now() + self._hold_s  # others are being answered, as in Ollama's own queue
        return self.loaded

    def lost(self, error: UpstreamError) -> None:
        """A request found nobody at Ollama's address: say so from now on, and look again at once."""
        self._unreachable(error)
        self._wake.set()

    async def once_loaded(self) -> LoadedModel | None:
        """The loaded model, however long it takes; None when it is away, and with it whatever hung."""
        while self.loaded is None:
            if self.away:
                return None
            await self._changed.wait()
        return self.loaded

    def seen(self, running: list[dict[str, Any]] | None) -> None:
        """Another model of ours was loaded: this one may have had to go."""
        if self.loaded is not None and running is not None and self._entry(running) is None:
            self._make_room()

    def restart(self, reason: str) -> None:
        """Have the model unloaded and loaded anew: what ends a request that Ollama itself no longer ends. Begins at once."""
        if self.loaded is None:
            return
        log.warning("%s must be loaded again: %s", self.loaded.name, reason)
        self._unwanted, self.loaded, self._wanted = self.loaded.name, None, True
        self._starting(f"loading {self._unwanted} again ({reason})")
        self._wake.set()

    def suspect(self) -> None:
        """A request went wrong in a way that may be the engine's end: look at once."""
        self._wake.set()

    async def _sleep(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    async def _look(self) -> None:
        running = await self._server.running()
        self._reached, self._missed = True, 0
        if self._unwanted is not None and not await self._unload(self._unwanted):
            self._starting(
                f"{self._unwanted} hangs, and Ollama cannot unload it while other clients of its wait for answers"
            )
            return
        if self.loaded is None:
            if self._wanted:
                await self._load()
            return
        if running is None:
            return
        entry = self._entry(running)
        if entry is None and (not self._standing or self._hall.is_crowded(self)):
            self._make_room()
            return
        if entry is None and not str(self._config.keep_alive).startswith("-"):
            return  # with a finite keep-alive Ollama unloads an idle model, as it was told to, and loads it at the next request
        if entry is None or (is_named(entry, self.loaded.name) and entry.get("digest") != self.loaded.digest):
            log.info("ollama has unloaded or changed %s: loading it again", self.loaded.name)
            self.loaded = None
            await self._load()
        elif entry.get("context_length") not in (None, self.loaded.context):
            log.info("ollama has loaded %s anew, with a window of %s", self.loaded.name, entry["context_length"])
            self.loaded = replace(self.loaded, context=int(entry["context_length"]))
            self._on_reload()

    async def _unload(self, name: str) -> bool:
        """Whether the model is gone. Ollama unloads it once no request is left, also one that waits for a slot that is never given back."""
        await self._server.unload(name)
        deadline = asyncio.get_running_loop().time() + UNLOAD_S
        while await self._is_listed(name):
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(UNLOAD_POLL_S)
        self._unwanted = None
        return True

    async def _is_listed(self, name: str) -> bool:
        try:
            return self._entry(await self._server.running() or [], name) is not None
        except UpstreamError as error:
            if error.status is None:
                raise
            return True  # 0.24.0 stumbles over a model that it is unloading at this moment

    async def _load(self) -> None:
        before = self._known.name if self.away and self._known else None
        name, tag, show = await self._server.choose(self._config.model, before)
        self._weights, self.blob = weights_of(tag), catalog.modelfile_line(show, "from")
        longest = catalog.longest_context(show)
        context = self._config.context
        num_ctx = min(context, longest or context) if context else None
        self._loading(name)
        async with self._hall.loading(self):
            self._on_reload()
            await self._server.load(name, num_ctx, self._config.keep_alive)
            running = await self._server.running()
            self._hall.saw(self, running)
            entry = self._entry(running or [], name) or {}
            version = await self._server.version()
            window = entry.get("context_length") or num_ctx or longest or 4_096
            self._ready(loaded_model(name, tag, show, window, num_ctx, self._config.keep_alive, version))

    def _entry(self, running: list[dict[str, Any]], name: str | None = None) -> dict[str, Any] | None:
        """This model among those in memory; never another of ours, which has weights of its own."""
        wanted = name or (self.loaded.name if self.loaded else self.name) or ""
        theirs = [
            one.name for one in self._hall.others(self) if one.name and self.blob and one.blob not in ("", self.blob)
        ]
        return entry_of(
            [one for one in running if not any(is_named(one, other) for other in theirs)], wanted, self._weights
        )

    def _starting(self, detail: str) -> None:
        self._set(BackendHealth("starting", detail, {"ollama": "ok"}, retry_after=LOADING_RETRY_S), None)

    def _loading(self, name: str) -> None:
        if self.away:  # nothing is wrong: requests wait a moment, as they do for one another
            self._set(BackendHealth("ok", f"{name} is being loaded again", {"ollama": "ok"}), None)
        else:
            self._starting(f"loading {name}")

    def _ready(self, model: LoadedModel) -> None:
        log.info("serving %s with a window of %d tokens", model.name, model.context)
        self.loaded = self._known = model
        self.away = False
        self._set(BackendHealth("ok", f"{model.name} is loaded", {"ollama": "ok"}), None)

    def _make_room(self) -> None:
        """It was unloaded for another one. Only a request brings it back: else the two would drive each other out."""
        assert self.loaded is not None
        log.info("%s has made room for another model", self.loaded.name)
        self._known, self.loaded = self.loaded, None
        self.away, self._wanted = True, False
        self._on_reload()
        self._set(BackendHealth("ok", f"{self._known.name} is loaded when it is asked for", {"ollama": "ok"}), None)

    def _want(self) -> None:
        """A request asks for it. What could not be loaded is not tried again at once: it may have driven another one out."""
        if self._wanted or (self._failure is not None and asyncio.get_running_loop().time() < self._ask_again_at):
            return
        self._failure = None
        self._wanted = True
        self._wake.set()

    def _unreachable(self, error: UpstreamError) -> None:
        if error.status is None:
            self._fail(error.message, gone(error.message), "failed")
            self._on_lost()
        else:
            reason = f"Ollama cannot load the model: {error.message}"
            self._fail(reason, unavailable(reason, LOADING_RETRY_S), "ok", LOADING_RETRY_S)

    def _fail(self, reason: str, failure: ApiError, ollama: Any, again_s: float = RETRY_S) -> None:
        """`again_s` from now a request may have it tried again. Never at once: the one that is told of it would itself, without end."""
        if self.health.detail != reason:
            log.warning("%s", reason)
        self.loaded, self.away, self._wanted = None, False, self._standing
        self._ask_again_at = asyncio.get_running_loop().time() + again_s
        self._set(BackendHealth("failed", reason, {"ollama": ollama}, retry_after=failure.retry_after), failure)

    def _set(self, health: BackendHealth, failure: ApiError | None) -> None:
        self.health, self._failure = health, failure
        self._changed.set()
        self._changed = asyncio.Event()
