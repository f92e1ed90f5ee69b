"""The exact tier: an answer by canonical key, from whatever store there is."""

from __future__ import annotations

from llmhost.cache.base import CacheStore, StoreStatus
from llmhost.cache.policy import storable
from llmhost.messages.answer import Answer


class ExactCache:
    """Looks answers up and keeps them, and counts: `exact_hits`, `exact_misses`, `exact_bypass`, `saved_tokens`, `saved_ms`."""

    def __init__(self, store: CacheStore, ttl_s: float) -> None:
        self._store = store
        self._ttl_s = ttl_s

    async def lookup(self, key: str) -> Answer | None:
        """The stored answer, counted as a hit or a miss."""
        data = await self._store.get(key)
        answer = Answer.load(data) if data is not None else None
        if answer is None:
            self._store.add_counts({"exact_misses": 1})
            return None
        saved = {"saved_tokens": answer.total_tokens(), "saved_ms": round(answer.seconds * 1000)}
        self._store.add_counts({"exact_hits": 1, **saved})
        return answer

    def bypassed(self) -> None:
        """A request that was not allowed to ask."""
        self._store.add_counts({"exact_bypass": 1})

    def keep(self, key: str, answer: Answer) -> None:
        """Store an answer if it may be served again; returns at once."""
        if storable(answer):
            self._store.put(key, answer.dump(), self._ttl_s)

    async def counts(self) -> dict[str, int]:
        return await self._store.counts()

    async def status(self) -> StoreStatus:
        return await self._store.status()

    async def clear(self) -> int:
        return await self._store.clear()

    async def start(self) -> None:
        await self._store.start()

    async def aclose(self) -> None:
        await self._store.aclose()
