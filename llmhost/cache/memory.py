"""The store that needs no server: answers in this process, bounded in bytes, the least recently used go first."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from llmhost.cache.base import StoreStatus

# What CPython keeps per entry beside the bytes of key and value. Measured with tracemalloc over 10,000 entries: 326 bytes, a little more
# when the hash tables have just grown. Without it a cache of tiny answers would hold several times its bound.
ENTRY_OVERHEAD = 400


@dataclass(frozen=True, slots=True)
class Entry:
    """A kept value, when it was put and when it expires, both by the store's clock, and what it weighs in bytes."""

    value: bytes
    stored: float
    expires: float
    size: int


class MemoryStore:
    """A `CacheStore` in a dictionary. Every operation is O(1), amortised.

    `max_bytes` bounds keys, values and bookkeeping together; a value that alone is larger is not kept. `now` gives seconds and must
    never go backwards.
    """

    def __init__(self, max_bytes: int, now: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._now = now
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # by last use, the oldest first
        self._arrivals: OrderedDict[str, None] = OrderedDict()  # by time of storing: with one TTL, the order of expiry
        self._bytes = 0
        self._counts: dict[str, int] = {}

    async def start(self) -> None:
        """Nothing to connect to."""

    async def aclose(self) -> None:
        """Forget everything."""
        self._forget_all()

    async def get(self, key: str) -> bytes | None:
        entry = self.find(key)
        return entry.value if entry else None

    def find(self, key: str) -> Entry | None:
        """Like `get`, with all that is known about the entry."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry.expires <= self._now():
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return entry

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        self._drop(key)
        self._drop_expired()
        size = len(key) + len(value) + ENTRY_OVERHEAD
        if size > self._max_bytes or ttl_s <= 0:
            return
        while self._bytes + size > self._max_bytes:
            self._drop(next(iter(self._entries)))
        now = self._now()
        self._entries[key] = Entry(value, now, now + ttl_s, size)
        self._arrivals[key] = None
        self._bytes += size

    async def flush(self) -> None:
        """Nothing is ever pending."""

    async def clear(self) -> int:
        self._drop_expired()
        return self._forget_all()

    def add_counts(self, counts: dict[str, int]) -> None:
        for name, amount in counts.items():
            self._counts[name] = self._counts.get(name, 0) + amount

    async def counts(self) -> dict[str, int]:
        return dict(self._counts)

    async def status(self) -> StoreStatus:
        self._drop_expired()
        return StoreStatus("memory", "ok", len(self._entries), self._bytes)

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            del self._arrivals[key]
            self._bytes -= entry.size

    def _drop_expired(self) -> None:
        now = self._now()
        while self._arrivals:
            oldest = next(iter(self._arrivals))
            if self._entries[oldest].expires > now:
                return
            self._drop(oldest)

    def _forget_all(self) -> int:
        count = len(self._entries)
        self._entries.clear()
        self._arrivals.clear()
        self._bytes = 0
        return count
