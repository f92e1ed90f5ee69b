"""The seam between the response cache and where it keeps things.

Values are opaque bytes, keys are short ASCII strings that the cache has already made unguessable and tenant-bound. A store may lose
anything at any time; it may never return something that was stored under another key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

StoreKind = Literal["memory", "redis"]
StoreState = Literal["ok", "degraded", "off"]


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What `status` shows of a store. A number that is not known is None. `detail` says why it is degraded, never with a secret."""

    kind: StoreKind
    state: StoreState
    entries: int | None
    memory_bytes: int | None
    detail: str = ""


class CacheStore(Protocol):
    """Bytes by key, with a time to live. No method raises because of the store's own trouble: it degrades instead."""

    async def start(self) -> None:
        """Connect in the background; returns at once."""

    async def aclose(self) -> None:
        """Flush what is pending (bounded in time) and close."""

    async def get(self, key: str) -> bytes | None:
        """The value, or None: not there, expired, or the store did not answer within its time-out."""

    def put(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep a value, in the background; an answer never waits for it."""

    async def flush(self) -> None:
        """Wait until everything put so far is stored or given up."""

    async def clear(self) -> int:
        """Delete llmhost's own entries of this namespace; how many there were."""

    def add_counts(self, counts: dict[str, int]) -> None:
        """Add to the named counters (`exact_hits`, …), which survive restarts where the store does."""

    async def counts(self) -> dict[str, int]:
        """All counters."""

    async def status(self) -> StoreStatus:
        """From memory or within the store's time-out."""
