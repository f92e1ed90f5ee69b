"""The nodes of a fleet at this moment: who is in it, which model it serves, how each of them is."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any

from llmhost.backends.base import ModelInfo, NodeReading, PrefixReuse
from llmhost.backends.fleet.router import Fitness, NodeView
from llmhost.backends.fleet.watch import How, NodeWatch
from llmhost.backends.node import NodeBackend
from llmhost.core.server_config import NodeConfig, Timing

PATIENCE_S = 2.0  # for the conversation's own node: links come back in 0.3 to 0.5 s (tunnel facts §2.4), moving costs its whole prefix
DROPPED_HOLD_S = 3.0  # for a proxy that is started again behind a healthy link; after that it is down (tunnel facts, T10: told at once)
COMING_BACK: frozenset[How | None] = frozenset({"refused", "dropped", "silent"})
FORGOTTEN_AFTER_S = 60.0  # a node lost for so long has no say in what model the fleet serves


class Members:
    """The nodes by id, in the order given. Nothing runs before `start`."""

    def __init__(
        self, configs: Sequence[NodeConfig], timing: Timing, forgotten_after_s: float = FORGOTTEN_AFTER_S
    ) -> None:
        self._configs = tuple(configs)
        self._timing = timing
        self._forgotten_after_s = forgotten_after_s
        self._nodes: dict[str, NodeBackend] = {}
        self._started = False
        self._model: ModelInfo | None = None
        self._others: dict[str, ModelInfo] = {}  # by name in small letters
        self._left = PrefixReuse()  # of nodes that are gone
        self._changed = asyncio.Event()
        self._retiring: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin watching. Needs the running event loop."""
        self._started = True
        self.set(self._configs)

    async def aclose(self) -> None:
        for task in self._retiring:
            task.cancel()
        for task in list(self._retiring):
            with suppress(asyncio.CancelledError):
                await task
        for node in self._nodes.values():
            await node.aclose()

    def set(self, configs: Sequence[NodeConfig]) -> None:
        """These are the nodes now. One with the same id, url and token goes on as it is; another finishes what it does."""
        self._configs = tuple(configs)
        if not self._started:
            return
        before = self._nodes
        self._nodes = {config.id: self._kept_or_new(before.pop(config.id, None), config) for config in configs}
        for node in before.values():
            self._retire(node)
        self._looked()

    def get(self, id: str) -> NodeBackend:
        return self._nodes[id]

    def __len__(self) -> int:
        return len(self._nodes)

    def all(self) -> list[NodeBackend]:
        return list(self._nodes.values())

    @property
    def model(self) -> ModelInfo | None:
        """What the fleet serves: the model of most nodes, on a tie that of the first. A node with another gets no work."""
        return self._model

    def models(self) -> list[ModelInfo]:
        """All that some node can be asked for, the fleet's own first; of several that share a name the one that most nodes have."""
        return [*([self._model] if self._model else []), *(self._others[name] for name in sorted(self._others))]

    def find(self, name: str) -> ModelInfo | None:
        """The one of that name."""
        return next((model for model in self.models() if model.is_called(name)), None)

    def with_any(self, name: str) -> list[NodeBackend]:
        """The nodes at work that have a model of that name, be they lost just now; and those that may, as they have not said yet."""
        at_work = [node for node in self._nodes.values() if not node.config.draining]
        return [node for node in at_work if self._may_have(node, name)]

    def _may_have(self, node: NodeBackend, name: str) -> bool:
        if node.watch.models:
            return any(one.is_called(name) for one in node.watch.models)
        return node.config.trouble is None and node.watch.lost_for < self._forgotten_after_s

    def reuse(self) -> PrefixReuse:
        """Summed over the nodes."""
        parts = [self._left, *(node.watch.reuse for node in self._nodes.values())]
        return PrefixReuse(sum(part.prompt_tokens for part in parts), sum(part.reused_tokens for part in parts))

    async def changed(self, within: float) -> None:
        """Wait until something was learned of a node, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._changed.wait()

    def views(self, name: str | None = None) -> list[NodeView]:
        """What the router is to know of them for a request that wants the model of that name; None = the fleet's own."""
        now = asyncio.get_running_loop().time()
        wanted = self.find(name) if name else None
        return [self._view(node, now, self._serves(node, name, wanted)) for node in self._nodes.values()]

    def readings(self) -> list[NodeReading]:
        return [node.reading(self.detail(node)) for node in self._nodes.values()]

    def detail(self, node: NodeBackend) -> str:
        """Why the node is in its state, in a sentence."""
        if node.config.trouble is not None:
            return node.config.trouble[1]
        if self.has_other_model(node):
            own, ours = node.watch.model, self._model
            assert own is not None
            assert ours is not None
            theirs, fleets = (f"{one.id} ({one.digest[:12]})" for one in (own, ours))
            return f"only requests that name a model reach it: it serves {theirs}, the fleet {fleets}"
        return node.watch.health.detail

    def has_other_model(self, node: NodeBackend) -> bool:
        own, ours = node.watch.model, self._model
        return own is not None and ours is not None and own.identity != ours.identity

    def _kept_or_new(self, node: NodeBackend | None, config: NodeConfig) -> NodeBackend:
        if node is not None and (node.config.url, node.config.token) == (config.url, config.token):
            node.config = config
            node.watch.look_again()
            return node
        if node is not None:
            self._retire(node)
        return NodeBackend(config, self._timing, self._looked)

    def _retire(self, node: NodeBackend) -> None:
        self._left.prompt_tokens += node.watch.reuse.prompt_tokens
        self._left.reused_tokens += node.watch.reuse.reused_tokens
        self._keep(node.retire())

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _looked(self) -> None:
        self._model, self._others = self._elected(), self._elected_others()
        for node in self._nodes.values():
            node.note_state(self._state(node))
        self._changed.set()
        self._changed = asyncio.Event()

    def _elected(self) -> ModelInfo | None:
        nodes = [node for node in self._nodes.values() if node.watch.model is not None]
        return _majority([node.watch.model for node in self._in_office(nodes) if node.watch.model is not None])

    def _elected_others(self) -> dict[str, ModelInfo]:
        found: dict[str, list[ModelInfo]] = {}
        for node in self._in_office([node for node in self._nodes.values() if node.watch.models]):
            for one in node.watch.models:
                found.setdefault(one.id.casefold(), []).append(one)
        elected = {name: model for name, several in found.items() if (model := _majority(several)) is not None}
        if self._model is not None:
            elected.pop(self._model.id.casefold(), None)
        return elected

    def _in_office(self, nodes: list[NodeBackend]) -> list[NodeBackend]:
        """Those with a say in what is served: the ones at work, and not lost for long; the others only where there are no such."""
        at_work = [node for node in nodes if not node.config.draining and node.config.trouble is None]
        present = [node for node in at_work if node.watch.lost_for < self._forgotten_after_s]
        return present or at_work or nodes

    def _state(self, node: NodeBackend) -> str:
        watch, config = node.watch, node.config
        if config.draining:
            return "draining"
        if config.trouble is not None:
            return "failed"
        if watch.lost is not None:
            return "unreachable"
        if watch.health.state == "starting":
            return "loading"
        return "degraded" if watch.health.state != "ok" or self.has_other_model(node) else "ready"

    def _view(self, node: NodeBackend, now: float, serves: bool) -> NodeView:
        fitness, watch = self._fitness(node, now) if serves else Fitness.NONE, node.watch
        return NodeView(
            node.config.id,
            fitness,
            node.in_flight,
            node.config.parallel,
            returning=serves and watch.lost in COMING_BACK and watch.lost_for < PATIENCE_S,
            hopeful=serves and fitness is Fitness.NONE and self._may_become_fit(watch),
        )

    def _fitness(self, node: NodeBackend, now: float) -> Fitness:
        watch = node.watch
        if watch.lost is not None:
            return Fitness.NONE
        if watch.health.state == "ok":
            return Fitness.READY if node.breaker.allows(now) else Fitness.BROKEN
        return Fitness.FAILED if watch.health.state == "failed" else Fitness.NONE

    def _serves(self, node: NodeBackend, name: str | None, wanted: ModelInfo | None) -> bool:
        """Whether it would be asked for the model of that name, which is `wanted`, if it were well."""
        if node.config.draining or node.config.trouble is not None:
            return False
        if name is None:
            return not self.has_other_model(node)
        if wanted is None or not node.watch.models:
            return not node.watch.models  # it has not said yet what it has
        return any(one.identity == wanted.identity for one in node.watch.models)

    @staticmethod
    def _may_become_fit(watch: NodeWatch) -> bool:
        if watch.lost == "dropped":
            return watch.lost_so_for < DROPPED_HOLD_S
        return watch.lost in COMING_BACK or (watch.lost is None and watch.health.state == "starting")


def _majority(models: list[ModelInfo]) -> ModelInfo | None:
    """The model that most have, with the smallest window of theirs; the first of equals, in the order of the nodes."""
    counts = Counter(model.identity for model in models)
    if not counts:
        return None
    winner = max(counts, key=counts.__getitem__)
    return min((model for model in models if model.identity == winner), key=lambda model: model.context)
