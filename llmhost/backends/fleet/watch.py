"""What is known of one node: asked of its proxy every few seconds in the background, never while a request waits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from llmhost.backends.base import BackendHealth, HealthState, ModelInfo, PrefixReuse
from llmhost.backends.http import Upstream, UpstreamError

log = logging.getLogger(__name__)

# How a node could not be asked. refused: nobody listens (its link or its proxy is coming back); dropped: the connection ended without an
# answer (a link with no proxy behind it); silent: no answer in time (frozen, black hole); unfit: it answers, but not us, or is no llmhost.
How = Literal["refused", "dropped", "silent", "unfit"]

POLL_READY_S = 2.0
POLL_SOON_S = 0.2
POLL_LOST_S = 2.0
LOST_LONG_S = 60.0  # from then on a lost node is looked for less often
LOOK_WITHIN_S = 5.0
STARTING_RETRY_S = 2.0
LONGEST_ETA_S = 60.0  # the SDKs take a longer retry-after for a mistake
REFUSALS = (401, 403)
TOKEN_REFUSED = "the node does not accept the gateway's token; run `llmhost down`, then `llmhost up`"
FOREIGN = "what answers at the node's address is not an llmhost proxy of this version"


def load_eta(elapsed: float, last: float | None, told: float | None) -> float:
    """Seconds that a load may still take: what is left of the time the `last` one took; else what the node says itself (`told`), or half as
    long again as it has taken so far."""
    if last is not None and last > elapsed:
        return max(1.0, last - elapsed)
    return max(told or STARTING_RETRY_S, min(elapsed / 2, LONGEST_ETA_S))


def _plausible(model: ModelInfo) -> ModelInfo:
    if not (isinstance(model.id, str) and isinstance(model.digest, str) and isinstance(model.context, int)):
        raise TypeError("a model of another shape")
    return model


def _others(told: Any, main: ModelInfo | None) -> tuple[ModelInfo, ...]:
    """The models a node can be asked for, the main one first; a node of an older release tells only that one."""
    known = ModelInfo.__dataclass_fields__
    listed = [_plausible(ModelInfo(**{k: v for k, v in one.items() if k in known})) for one in told or ()]
    return (*((main,) if main else ()), *(one for one in listed if main is None or one.id != main.id))


class NodeWatch:
    """Models, health and prefix reuse of one node proxy. `on_look` is called after every look, whether or not something changed."""

    def __init__(self, upstream: Upstream, node_id: str, on_look: Callable[[], None]) -> None:
        self.model: ModelInfo | None = None
        self.models: tuple[ModelInfo, ...] = ()  # all it can be asked for, the main one first
        self.health = BackendHealth("starting", "the node proxy has not answered yet", retry_after=STARTING_RETRY_S)
        self.reuse = PrefixReuse()
        self.lost: How | None = "refused"  # None: it answers
        self._loop = asyncio.get_running_loop()
        self._lost_at = self._lost_so_at = self._loop.time()
        self._loading_since: float | None = None
        self._last_load_s: float | None = None
        self._upstream = upstream
        self._node_id = node_id
        self._on_look = on_look
        self._wake = asyncio.Event()
        self._task = self._loop.create_task(self._run())

    async def aclose(self) -> None:
        """Look no more."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    @property
    def lost_for(self) -> float:
        """Seconds since the node could be asked last; 0 when it can."""
        return 0.0 if self.lost is None else self._loop.time() - self._lost_at

    @property
    def lost_so_for(self) -> float:
        """The same, since it is lost in the way it is now: a machine that boots has its sshd before it has its proxy."""
        return 0.0 if self.lost is None else self._loop.time() - self._lost_so_at

    @property
    def eta(self) -> float | None:
        """Seconds until it may be ready, None while that is anybody's guess."""
        if self._loading_since is None:
            return self.health.retry_after
        return load_eta(self._loop.time() - self._loading_since, self._last_load_s, self.health.retry_after)

    def suspect(self, how: How, reason: str) -> None:
        """A request could not reach the node: look at once. A silent one may just be slow: the look decides."""
        if how != "silent":
            self._lose(how, reason)
            self._on_look()
        self.look_again()

    def look_again(self) -> None:
        self._wake.set()

    async def _run(self) -> None:
        while True:
            try:
                self._learn(await self._upstream.json("GET", "/internal/status", timeout=LOOK_WITHIN_S))
            except UpstreamError as error:
                self._not_answered(error)
            except (KeyError, TypeError, AttributeError, ValueError):
                self._lose("unfit", FOREIGN)
            self._on_look()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            self._wake.clear()

    def _pause(self) -> float:
        if self.lost is None:
            return POLL_READY_S if self.health.state == "ok" else POLL_SOON_S
        return POLL_SOON_S if self.lost_for < LOST_LONG_S else POLL_LOST_S

    def _not_answered(self, error: UpstreamError) -> None:
        if error.status in REFUSALS:
            self._lose("unfit", TOKEN_REFUSED)
        elif error.status is not None:
            self._lose("unfit", FOREIGN)
        else:
            self._lose("refused" if error.refused else "silent" if error.timed_out else "dropped", error.message)

    def _lose(self, how: How, reason: str) -> None:
        now = self._loop.time()
        self._lost_at = now if self.lost is None else self._lost_at
        self._lost_so_at = now if self.lost != how else self._lost_so_at
        if self.health.detail != reason:
            log.warning("node %s: %s", self._node_id, reason)
        self.lost = how
        self._loading_since = None
        state: HealthState = "starting" if self.model is None and how != "unfit" else "failed"
        self.health = BackendHealth(state, reason, {}, retry_after=STARTING_RETRY_S)

    def _learn(self, status: dict[str, Any]) -> None:
        model = status.get("model")
        known = ModelInfo.__dataclass_fields__
        backend = status["backend"]
        state: HealthState = "ok" if status["ready"] else backend["state"] if backend["state"] != "ok" else "starting"
        self.model = _plausible(ModelInfo(**{k: v for k, v in model.items() if k in known})) if model else self.model
        if (
            model or not self.models
        ):  # one whose main model is being loaded anew lists none, but has the others all the same
            self.models = _others(status.get("models"), self.model)
        self._time_the_load(state)
        if self.lost is not None and state == "ok":
            log.info("node %s is ready", self._node_id)
        self.lost = None
        self.health = BackendHealth(
            state, backend.get("detail") or "", backend.get("components") or {}, backend.get("retry_after")
        )
        prefix = status.get("prefix") or {}
        self.reuse.prompt_tokens = int(prefix.get("prompt_tokens") or 0)
        self.reuse.reused_tokens = int(prefix.get("reused_tokens") or 0)

    def _time_the_load(self, state: HealthState) -> None:
        now = self._loop.time()
        if state == "starting":
            self._loading_since = self._loading_since or now
            return
        if state == "ok" and self._loading_since is not None:
            self._last_load_s = now - self._loading_since
        self._loading_since = None
