"""From a request to where its answer comes from: a stored answer, a generation already under way, or a new one."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

from llmhost.backends.base import Backend, Call, ModelInfo
from llmhost.cache.exact import ExactCache
from llmhost.cache.policy import NOTHING, ExactPolicy, Permission
from llmhost.core.guard_files import Touch
from llmhost.core.server_config import ServerConfig
from llmhost.messages.answer import Answer, IncompleteAnswer, answer_of, events
from llmhost.messages.canonical import exact_key, raw_key
from llmhost.messages.errors import ApiError, model_unknown
from llmhost.messages.headers import GATEWAY_HEADER
from llmhost.messages.request import session_of
from llmhost.messages.writer import EventWriter
from llmhost.proxy.flight import Flight, Listener
from llmhost.proxy.metrics import Metrics

GATEWAY = GATEWAY_HEADER.encode()
ALIAS_PREFIXES = ("claude", "anthropic")
# A failure that could only be told by hanging up (bytes had gone out) is remembered, so that the client's next try gets its status at
# once. Only for errors that the same request is bound to meet again (cache facts §4.6: negative caching).
LASTING_STATUSES = frozenset({400, 404, 413})
REMEMBER_FAILURE_S = 30.0
# The same for "not now, come again then": just long enough for the try that follows the hanging up (0.6 s, claude-code facts §1.9).
PASSING_STATUSES = frozenset({503, 529})
REMEMBER_PASSING_S = 3.0


@dataclass(frozen=True, slots=True)
class Target:
    """Which model a request means. `name` is what its answer calls it; `info` None = nothing is known of it yet; `other` = the name of a
    model that is not the main one, or not known to be."""

    name: str
    info: ModelInfo | None = None
    other: str | None = None


@dataclass(slots=True)
class Served:
    """How a request is answered: `answer` from the cache, or `listener` on a generation. `cache` is the value of x-llmhost-cache."""

    target: Target
    cache: str
    answer: Answer | None = None
    listener: Listener | None = None


@dataclass(slots=True)
class Asked:
    """A request and what was found out about it. `key` None: neither the cache nor other requests have to do with it."""

    body: dict[str, Any]
    raw: bytes
    headers: dict[bytes, bytes]
    target: Target
    session: str | None
    key: str | None = None
    identity: str | None = None
    permission: Permission = NOTHING


class Pipeline:
    """Cache, single-flight and backend, in that order."""

    def __init__(self, config: ServerConfig, backend: Backend, cache: ExactCache | None, metrics: Metrics) -> None:
        self.backend = backend
        self.cache = cache
        self.metrics = metrics
        self.activity = Touch(config.activity_file)
        self._config = config
        self._policy = ExactPolicy(cache_sampled=config.cache.cache_sampled)
        self._tenant = hashlib.blake2b(config.token.encode(), digest_size=32, person=b"llmhost-tenant").digest()
        self._flights: dict[str, Flight] = {}
        self._failures: dict[str, tuple[ApiError, float]] = {}
        metrics.watch_backend(backend)

    async def serve(self, body: dict[str, Any], raw: bytes, headers: dict[bytes, bytes]) -> Served:
        """Find or begin the answer. Raises ApiError (unknown model, a failure just remembered)."""
        asked = self._ask(body, raw, headers, await self.target_of(body))
        if asked.key is None:
            return Served(asked.target, "bypass", listener=self._begin(asked))
        if asked.permission.join:
            self._raise_remembered(asked.key)
        if self.cache is None or not asked.permission.read:
            self._count_bypass()
            return self._join(asked) or Served(asked.target, "bypass", listener=self._begin(asked))
        return self._join(asked) or await self._look_up(self.cache, asked)

    async def _look_up(self, cache: ExactCache, asked: Asked) -> Served:
        answer = await cache.lookup(asked.key or "")
        self.metrics.looked_up("hit" if answer else "miss", answer)
        if answer is not None:
            return Served(asked.target, "exact", answer=answer)
        # an equal request may have come while the store was asked
        return self._join(asked) or Served(asked.target, "miss", listener=self._begin(asked))

    def _join(self, asked: Asked) -> Served | None:
        flight = self._flights.get(asked.key or "") if asked.permission.join else None
        if flight is None or not flight.joinable:
            return None
        return Served(asked.target, "coalesced", listener=flight.listen())

    def _count_bypass(self) -> None:
        if self.cache is not None:
            self.cache.bypassed()
            self.metrics.looked_up("bypass")

    def _ask(self, body: dict[str, Any], raw: bytes, headers: dict[bytes, bytes], target: Target) -> Asked:
        session = session_of(body, headers)
        asked = Asked(body, raw, headers, target, session)
        served = target.info
        if served is None or GATEWAY in headers:  # a gateway has looked, and joined, before it asked us
            return asked
        asked.identity = served.identity
        asked.key = exact_key(body, served.identity, self._tenant) if self.cache else raw_key(raw, self._tenant)
        control = headers.get(b"cache-control", b"").decode("latin-1").lower()
        asked.permission = self._policy.permit(asked.key, body, session, control)
        return asked

    async def target_of(self, body: dict[str, Any]) -> Target:
        """The model that is meant. Aliases stand for the main one; raises ApiError 404 for any other name that is not there."""
        main, asked = self.backend.model(), body.get("model")
        if not asked:
            return Target(main.id if main else "default", main)
        name = str(asked)
        if name in self._config.model_names or (main and main.is_called(name)):
            return Target(name, main)
        found = self.backend.find(name)  # before the aliases: a model of that very name may be there
        if found is None and name.startswith(ALIAS_PREFIXES):
            return Target(name, main)
        found = found or await self.backend.look_up(name)
        if found is None and main is not None:
            raise model_unknown(name, main.id)
        return Target(name, found, found.id if found else name)

    def count_tokens_of(self, flight: Flight, model: str) -> None:
        """Put a generated answer's usage into the metrics."""
        usage = next(
            (e["usage"] for e in events(b"".join(flight.frames[-2:])) if e.get("type") == "message_delta"), None
        )
        if usage:
            self.metrics.tokens(model, usage)
            if flight.first_frame_at is not None and flight.ended_at is not None:
                self.metrics.pace(usage.get("output_tokens", 0), flight.ended_at - flight.first_frame_at)

    def _begin(self, asked: Asked) -> Listener:
        backend, timing = self.backend, self._config.timing
        estimate = backend.estimate(asked.body, asked.target.other)
        writer = EventWriter(asked.target.name, estimate, translates=backend.translates, heartbeat_s=timing.heartbeat)
        texts = {name.decode("latin-1"): value.decode("latin-1") for name, value in asked.headers.items()}
        call = Call(asked.body, asked.raw, writer, texts, asked.session, asked.target.other)
        flight = Flight(call, backend, timing, lambda flight: self._landed(flight, asked))
        if asked.key is not None and asked.permission.join:
            self._flights[asked.key] = flight
        return flight.listen()

    def _landed(self, flight: Flight, asked: Asked) -> None:
        key = asked.key
        if key is None:
            return
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.error is not None:
            self._remember(key, flight)
            return
        # Another model may have been loaded since the key was made: its answer belongs to another key.
        if self.cache is not None and asked.permission.store and flight.call.served == asked.identity:
            try:
                self.cache.keep(key, answer_of(b"".join(flight.frames), flight.seconds))
            except IncompleteAnswer:
                self.metrics.unstorable()

    def _remember(self, key: str, flight: Flight) -> None:
        error = flight.error
        if error is None or not flight.frames:
            return
        if error.status in LASTING_STATUSES:
            self._failures[key] = (error, time.monotonic() + REMEMBER_FAILURE_S)
        elif error.status in PASSING_STATUSES and error.retry_after is not None and not flight.block_was_completed():
            self._failures[key] = (error, time.monotonic() + REMEMBER_PASSING_S)

    def _raise_remembered(self, key: str) -> None:
        if not self._failures:
            return
        now = time.monotonic()
        self._failures = {k: entry for k, entry in self._failures.items() if entry[1] > now}
        if key in self._failures:
            raise self._failures[key][0]
