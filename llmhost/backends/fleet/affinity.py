"""Which node a conversation belongs to, so that the engine there still holds its prompt (the KV prefix).

Rendezvous hashing (highest random weight, Thaler and Ravishankar 1998): every node gets a number from the conversation's key and its own
name, the highest wins. When a node goes away only its own conversations move, and every operator's machine computes the same order.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from hashlib import blake2b

PLACEMENTS_KEPT = 4096  # conversations; what was not heard of for so long is no longer in any engine's memory
ACTIVE_S = 600.0  # a user who reads and thinks comes back within that time


def conversation_key(session: str | None, agent: str | None, model: str | None = None) -> str | None:
    """The name of a conversation; None without a session. A subagent has a prompt of its own, so it is a conversation of its own; and so is

    what is asked of another model than the main one (`model`).
    """
    if session is None:
        return None
    return "\n".join((session, *filter(None, (agent, model and f"model {model}"))))


def weight(key: bytes, node: str) -> int:
    """A number of 64 bits, the same on every machine."""
    return int.from_bytes(blake2b(key, digest_size=8, salt=_salt(node)).digest(), "big")


def ranked(key: bytes, nodes: Iterable[str]) -> list[str]:
    """The nodes, the one the conversation belongs to first."""
    return sorted(nodes, key=lambda node: weight(key, node), reverse=True)


def _salt(node: str) -> bytes:
    found = _SALTS.get(node)
    if found is None:
        if len(_SALTS) > PLACEMENTS_KEPT:
            _SALTS.clear()
        found = _SALTS[node] = blake2b(node.encode(), digest_size=blake2b.SALT_SIZE).digest()
    return found


_SALTS: dict[str, bytes] = {}


@dataclass(slots=True)
class Placement:
    node: str
    heard: float


class Placements:
    """Where conversations are, as far as remembered; the one not heard of for the longest time is forgotten first."""

    def __init__(self, kept: int = PLACEMENTS_KEPT, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept = kept
        self._clock = clock
        self._found: OrderedDict[str, Placement] = OrderedDict()  # in the order in which they were heard of

    def of(self, conversation: str) -> str | None:
        """Its node. To ask means that something was heard of it."""
        placement = self._found.get(conversation)
        if placement is None:
            return None
        placement.heard = self._clock()
        self._found.move_to_end(conversation)
        return placement.node

    def put(self, conversation: str, node: str) -> None:
        self._found[conversation] = Placement(node, self._clock())
        self._found.move_to_end(conversation)
        while len(self._found) > self._kept:
            self._found.popitem(last=False)

    def active(self) -> Counter[str]:
        """How many conversations each node has that were heard of lately."""
        since = self._clock() - ACTIVE_S
        counts: Counter[str] = Counter()
        for placement in reversed(self._found.values()):
            if placement.heard < since:
                break
            counts[placement.node] += 1
        return counts

    def keep_only(self, nodes: Collection[str]) -> None:
        """Forget what was on nodes that are no more: another one of the same name is another machine."""
        gone = [name for name, placement in self._found.items() if placement.node not in nodes]
        for name in gone:
            del self._found[name]

    def __len__(self) -> int:
        return len(self._found)
