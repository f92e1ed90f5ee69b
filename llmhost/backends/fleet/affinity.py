"""Which node a conversation belongs to, so that the engine there still holds its prompt (the KV prefix).

Rendezvous hashing (highest random weight, Thaler and Ravishankar 1998): every node gets a number from the conversation's key and its own
name, the highest wins. When a node goes away only its own conversations move, and every operator's machine computes the same order.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from hashlib import blake2b

PLACEMENTS_KEPT = 4096  # conversations; what was not heard of for so long is no longer in any engine's memory


def conversation_key(session: str | None, agent: str | None) -> str | None:
    """The name of a conversation; None without a session. A subagent has a prompt of its own, so it is a conversation of its own."""
    if session is None:
        return None
    return f"{session}\n{agent}" if agent else session


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


class Placements:
    """Where conversations are, as far as remembered; the one not heard of for the longest time is forgotten first."""

    def __init__(self, kept: int = PLACEMENTS_KEPT) -> None:
        self._kept = kept
        self._nodes: OrderedDict[str, str] = OrderedDict()

    def of(self, conversation: str) -> str | None:
        node = self._nodes.get(conversation)
        if node is not None:
            self._nodes.move_to_end(conversation)
        return node

    def put(self, conversation: str, node: str) -> None:
        self._nodes[conversation] = node
        self._nodes.move_to_end(conversation)
        while len(self._nodes) > self._kept:
            self._nodes.popitem(last=False)

    def __len__(self) -> int:
        return len(self._nodes)
