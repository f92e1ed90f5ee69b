"""Backend `fleet`: several nodes behind one gateway, as one source of answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import orjson

from llmhost.backends.base import BackendHealth, Call, ModelInfo, NodeReading, PrefixReuse
from llmhost.backends.fleet.affinity import Placements, conversation_key
from llmhost.backends.fleet.members import FORGOTTEN_AFTER_S, Members
from llmhost.backends.fleet.refusals import fleet_health, refusal
from llmhost.backends.fleet.trip import Trip
from llmhost.backends.node import Ask
from llmhost.core.server_config import NodeConfig, Timing

BYTES_PER_TOKEN = 4
AGENT_HEADER = "x-claude-code-agent-id"


class FleetBackend:
    """Implements `Backend` and `HasNodes`. A conversation stays on its node; a node that fails is replaced by another, unseen."""

    kind = "fleet"
    translates = False
    node_id: str | None = None  # the node differs from request to request: see Call.node

    def __init__(
        self, nodes: Sequence[NodeConfig], timing: Timing, *, forgotten_after_s: float = FORGOTTEN_AFTER_S
    ) -> None:
        self._members = Members(nodes, timing, forgotten_after_s)
        self._placements = Placements()
        self._hold = timing.hold

    async def start(self) -> None:
        self._members.start()

    async def aclose(self) -> None:
        await self._members.aclose()

    def set_nodes(self, nodes: Sequence[NodeConfig]) -> None:
        self._members.set(nodes)
        self._placements.keep_only({node.id for node in nodes})

    def nodes(self) -> list[NodeReading]:
        return self._members.readings()

    @property
    def reuse(self) -> PrefixReuse:
        return self._members.reuse()

    def model(self) -> ModelInfo | None:
        return self._members.model

    def models(self) -> list[ModelInfo]:
        return self._members.models()

    def find(self, name: str) -> ModelInfo | None:
        return self._members.find(name)

    async def look_up(self, name: str) -> ModelInfo | None:
        """What the nodes have is known to within seconds: nothing more is asked of them here. Raises ApiError 503, 529 while a node that

        has it, or may have it, cannot be asked: a client believes a 404 and gives up.
        """
        found = self.find(name)
        if found is None and self.model() is not None and self._members.with_any(name):
            raise refusal(self._members, name)
        return found

    def health(self) -> BackendHealth:
        return fleet_health(self._members)

    def estimate(self, body: dict[str, Any], model: str | None = None) -> int:
        parts = (body.get("system"), body.get("tools"), body["messages"])
        return sum(len(orjson.dumps(part)) for part in parts if part) // BYTES_PER_TOKEN

    async def count_tokens(self, body: dict[str, Any], model: str | None = None) -> tuple[int, bool]:
        """By any node that has the model: a count leaves no trace in an engine, so it is bound to none."""
        return await self._trip(body, None, model).count(orjson.dumps(body))

    async def generate(self, call: Call) -> AsyncIterator[bytes]:
        """The frames of the node that answers; accepted with its first content. Raises ApiError."""
        model = self._members.find(call.model) if call.model else self._members.model
        ask = Ask.of(call, model.identity if model and len(self._members) > 1 else None)
        conversation = conversation_key(call.session, call.headers.get(AGENT_HEADER), call.model)
        async with aclosing(self._trip(call.body, conversation, call.model).frames(ask, call)) as frames:
            async for frame in frames:
                yield frame

    def _trip(self, body: dict[str, Any], conversation: str | None, model: str | None) -> Trip:
        key = conversation.encode() if conversation else _beginning(body)
        return Trip(self._members, self._placements, key, conversation, self._hold, model)


def _beginning(body: dict[str, Any]) -> bytes:
    """What stays the same through a conversation that has no name: it makes the order of equally busy nodes its own."""
    return orjson.dumps([body.get("system"), body["messages"][0]])
