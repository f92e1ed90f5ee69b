"""What llmhost's keys in a Redis are called, and how all entries of a namespace are found, measured and deleted.

    llmhost:{NAMESPACE}:exact:KEY   one sealed answer, with a TTL
    llmhost:{NAMESPACE}:counts      hash of counters
    llmhost:{NAMESPACE}:probe       written for a second to see whether writing works

The braces are a cluster's hash tag: all keys of a namespace lie on one node.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass

from llmhost.cache.redis_errors import Refused
from llmhost.cache.redis_link import Command, Reply
from llmhost.cache.redis_session import RedisSession
from llmhost.core.errors import UsageError

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # no brace (hash tag), no glob character (SCAN MATCH)
_SCAN_COUNT = 1000  # keys looked at per call: about 0.2 ms of the server's time
_MOST_SCANS = 200  # a database with more keys than 200,000 is not walked just to show a number


@dataclass(frozen=True, slots=True)
class Keys:
    """Names of one namespace. Raises UsageError for a namespace that cannot be part of a key."""

    namespace: str

    def __post_init__(self) -> None:
        if not _NAMESPACE.fullmatch(self.namespace):
            raise UsageError(
                "the cache namespace may hold only letters, digits, '.', '_' and '-', and at most 64 of them.",
                hint="Choose another cache_namespace.",
                code="cache_namespace",
            )

    @property
    def prefix(self) -> str:
        return f"llmhost:{{{self.namespace}}}:"

    @property
    def counts(self) -> str:
        return self.prefix + "counts"

    @property
    def probe(self) -> str:
        return self.prefix + "probe"

    @property
    def entries(self) -> str:
        """The pattern of all entries."""
        return self.prefix + "exact:*"

    def entry(self, key: str) -> str:
        return self.prefix + "exact:" + key


@dataclass(frozen=True, slots=True)
class Extent:
    """How many entries there are and what they weigh in the server, bookkeeping included. None = not known."""

    entries: int | None = None
    memory_bytes: int | None = None


async def measure(session: RedisSession, keys: Keys) -> Extent:
    """Count and weigh the entries that are really there (expired and evicted ones are not). Raises RedisTrouble.

    A database too large to walk gives no numbers; a user without MEMORY gives no weight.
    """
    seen: set[bytes] = set()  # SCAN may name a key twice
    weight: int | None = 0
    async for found in _scan(session, keys.entries, _MOST_SCANS):
        if found is None:
            return Extent()
        new = [key for key in found if key not in seen]
        seen.update(new)
        weighed = await _weigh(session, new) if weight is not None else None
        weight = None if weight is None or weighed is None else weight + weighed
    return Extent(len(seen), weight)


async def delete_entries(session: RedisSession, keys: Keys) -> int:
    """Delete all entries of the namespace and nothing else; how many there were. Raises RedisTrouble."""
    deleted = 0
    async for found in _scan(session, keys.entries, None):
        if found:
            reply = await _ask(session, ("UNLINK", *found))
            deleted += reply if isinstance(reply, int) else 0
    return deleted


async def _scan(session: RedisSession, pattern: str, most: int | None) -> AsyncIterator[list[bytes] | None]:
    """Pages of matching keys; a last None when `most` calls were not enough."""
    cursor: bytes = b"0"
    calls = 0
    while most is None or calls < most:
        reply = await _ask(session, ("SCAN", cursor, "MATCH", pattern, "COUNT", _SCAN_COUNT))
        cursor, found = _page(reply)
        yield found
        if cursor == b"0":
            return
        calls += 1
    yield None


def _page(reply: Reply) -> tuple[bytes, list[bytes]]:
    if isinstance(reply, list) and len(reply) == 2 and isinstance(reply[0], bytes) and isinstance(reply[1], list):
        return reply[0], [key for key in reply[1] if isinstance(key, bytes)]
    return b"0", []


async def _weigh(session: RedisSession, found: list[bytes]) -> int | None:
    if not found:
        return 0
    replies = await session.write(*(("MEMORY", "USAGE", key) for key in found))
    if any(isinstance(reply, Refused) for reply in replies):
        return None
    return sum(reply for reply in replies if isinstance(reply, int))


async def _ask(session: RedisSession, command: Command) -> Reply:
    reply = (await session.write(command))[0]
    if isinstance(reply, Refused):
        raise reply
    return reply
