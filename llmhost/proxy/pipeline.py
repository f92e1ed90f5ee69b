"""From a request to where its answer comes from: a stored answer, a generation already under way, or a new one."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import Any

from llmhost.backends.base import Backend, Call, ModelInfo
from llmhost.cache.exact import ExactCache
from llmhost.cache.policy import NOTHING, ExactPolicy, Permission
from llmhost.core.server_config import ServerConfig
from llmhost.messages.answer import Answer, IncompleteAnswer, answer_of, events
from llmhost.messages.canonical import exact_key
from llmhost.messages.errors import ApiError, model_unknown
from llmhost.messages.request import session_of
from llmhost.messages.writer import EventWriter
from llmhost.proxy.flight import Flight, Listener
from llmhost.proxy.metrics import Metrics

ALIAS_PREFIXES = ("claude", "anthropic")
# A failure that could only be told by hanging up (bytes had gone out) is remembered, so that the client's next try gets its status at
# once. Only for errors that the same request is bound to meet again (cache facts §4.6: negative caching).
LASTING_STATUSES = frozenset({400, 404, 413})
REMEMBER_FAILURE_S = 30.0


@dataclass(slots=True)
class Served:
    """How a request is answered: `answer` from the cache, or `listener` on a generation. `cache` is the value of x-llmhost-cache."""

    model: str
    cache: str
    answer: Answer | None = None
    listener: Listener | None = None


class Pipeline:
    """Cache, single-flight and backend, in that order."""

    def __init__(self, config: ServerConfig, backend: Backend, cache: ExactCache | None, metrics: Metrics) -> None:
        self.backend = backend
        self.cache = cache
        self.metrics = metrics
        self._config = config
        self._policy = ExactPolicy(cache_sampled=config.cache.cache_sampled)
        self._tenant = hashlib.blake2b(config.token.encode(), digest_size=32, person=b"llmhost-tenant").digest()
        self._flights: dict[str, Flight] = {}
        self._failures: dict[str, tuple[ApiError, float]] = {}
        metrics.watch_backend(backend.node_id or backend.kind, lambda: backend.health().state == "ok")

    async def serve(self, body: dict[str, Any], raw: bytes, headers: dict[bytes, bytes]) -> Served:
        """Find or begin the answer. Raises ApiError (unknown model, a failure just remembered)."""
        model = self.requested_model(body)
        session = session_of(body, headers)
        key, permission = self._key_and_permission(body, session, headers)
        if key is None or self.cache is None:
            return Served(model, "bypass", listener=self._begin(body, raw, headers, model, session, None, permission))
        self._raise_remembered(key)
        if not permission.read:
            self.cache.bypassed()
            self.metrics.looked_up("bypass")
            return Served(model, "bypass", listener=self._begin(body, raw, headers, model, session, key, permission))
        answer = await self.cache.lookup(key)
        self.metrics.looked_up("hit" if answer else "miss", answer)
        if answer is not None:
            return Served(model, "exact", answer=answer)
        flight = self._flights.get(key) if permission.join else None
        if flight is not None and not flight.ended:
            return Served(model, "coalesced", listener=flight.listen())
        return Served(model, "miss", listener=self._begin(body, raw, headers, model, session, key, permission))

    def requested_model(self, body: dict[str, Any]) -> str:
        """The name to echo. Aliases stand for the loaded model; any other unknown name is a 404."""
        served = self.backend.model()
        asked = body.get("model")
        if not asked:
            return served.id if served else "default"
        if served is None or asked.startswith(ALIAS_PREFIXES) or asked in self._config.model_names:
            return str(asked)
        if asked in (served.id, served.id.removesuffix(":latest")):
            return str(asked)
        raise model_unknown(asked, served.id)

    def count_tokens_of(self, flight: Flight, model: str) -> None:
        """Put a generated answer's usage into the metrics."""
        usage = next(
            (e["usage"] for e in events(b"".join(flight.frames[-2:])) if e.get("type") == "message_delta"), None
        )
        if usage:
            self.metrics.tokens(model, usage)

    def _key_and_permission(
        self, body: dict[str, Any], session: str | None, headers: dict[bytes, bytes]
    ) -> tuple[str | None, Permission]:
        model = self.backend.model()
        if self.cache is None or model is None:
            return None, NOTHING
        key = exact_key(body, identity(model), self._tenant)
        control = headers.get(b"cache-control", b"").decode("latin-1").lower()
        return key, self._policy.permit(key, body, session, control)

    def _begin(
        self,
        body: dict[str, Any],
        raw: bytes,
        headers: dict[bytes, bytes],
        model: str,
        session: str | None,
        key: str | None,
        permission: Permission,
    ) -> Listener:
        backend, timing = self.backend, self._config.timing
        writer = EventWriter(model, backend.estimate(body), translates=backend.translates, heartbeat_s=timing.heartbeat)
        texts = {name.decode("latin-1"): value.decode("latin-1") for name, value in headers.items()}
        call = Call(body, raw, writer, texts, session)

        def done(flight: Flight) -> None:
            self._landed(flight, key, permission)

        flight = Flight(call, backend, timing, done)
        if key is not None and permission.join:
            self._flights[key] = flight
        return flight.listen()

    def _landed(self, flight: Flight, key: str | None, permission: Permission) -> None:
        if key is None:
            return
        if self._flights.get(key) is flight:
            del self._flights[key]
        if flight.error is not None:
            if flight.frames and flight.error.status in LASTING_STATUSES:
                self._failures[key] = (flight.error, time.monotonic() + REMEMBER_FAILURE_S)
            return
        if permission.store and self.cache is not None:
            try:
                self.cache.keep(key, answer_of(b"".join(flight.frames), flight.seconds))
            except IncompleteAnswer:
                self.metrics.unstorable()

    def _raise_remembered(self, key: str) -> None:
        if not self._failures:
            return
        now = time.monotonic()
        self._failures = {k: entry for k, entry in self._failures.items() if entry[1] > now}
        if key in self._failures:
            raise self._failures.pop(key)[0]


def identity(model: ModelInfo) -> str:
    """What an answer depends on besides the request. The window is not part of it: it decides whether there is an answer, not which."""
    return f"{model.id}\n{model.digest}"
