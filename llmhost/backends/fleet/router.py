"""Which node a request goes to: a pure function of what the nodes look like at that moment.

A conversation goes where it went before. A new one goes where it belongs (affinity), unless that node has so many more conversations than
another that the other's engine would stay idle, or is busy while another has room: the one with the fewest, or with the least work, then.
What has no conversation goes to the least work.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from llmhost.backends.fleet.affinity import weight

NONE_ACTIVE: Mapping[str, int] = {}


class Fitness(IntEnum):
    """How fit a node is to be asked. A worse one is asked only where no better one is."""

    READY = 0
    BROKEN = 1  # it says it is well, but its breaker is open: asked where no other could be, so that one bad hour never shuts a fleet
    FAILED = 2  # its proxy answers, its engine does not: asked for its own word on why
    NONE = 3  # draining, in trouble, away, starting, or with another model


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as the router sees it. `in_flight` and `parallel` are requests; `returning` = lost a moment ago, so worth a short wait.

    `hopeful` = it may be fit again before a held request's time is up.
    """

    id: str
    fitness: Fitness
    in_flight: int = 0
    parallel: int = 1
    returning: bool = False
    hopeful: bool = False

    @property
    def load(self) -> float:
        """Requests under way for each the engine answers at once."""
        return self.in_flight / max(1, self.parallel)

    @property
    def has_room(self) -> bool:
        return self.in_flight < self.parallel


@dataclass(frozen=True, slots=True)
class Choice:
    """`order` = nodes to ask, best first; empty: none now. `wait` = the conversation's own node is just coming back: wait for it first."""

    order: tuple[str, ...] = ()
    wait: bool = False


def choose(
    nodes: Sequence[NodeView],
    key: bytes,
    *,
    placed: str | None = None,
    bound: bool = True,
    spent: Collection[str] = (),
    active: Mapping[str, int] = NONE_ACTIVE,
) -> Choice:
    """The candidates of one request.

    `key` is what its conversation is known by, `placed` the node the conversation is on; `bound` False = it has no conversation, and `key`
    only breaks ties. `spent` are nodes that have failed this very request, `active` counts the conversations each node has at the moment.
    """
    fit = [node for node in nodes if node.fitness is not Fitness.NONE]
    best = min((node.fitness for node in fit), default=Fitness.NONE)
    if best is Fitness.FAILED and any(node.hopeful for node in nodes):
        return Choice(wait=True)
    open_to = [node for node in fit if node.fitness is best and node.id not in spent]
    by_rank = sorted(open_to, key=lambda node: weight(key, node.id), reverse=True)
    ordered = _ordered(by_rank, placed, active) if bound else _by_load(by_rank)
    order = tuple(node.id for node in ordered)
    return Choice(order, wait=_worth_a_wait(nodes, placed, spent))


def _by_load(nodes: list[NodeView]) -> list[NodeView]:
    return sorted(nodes, key=lambda node: node.load)  # stable: ties stay in the order of rank


def _ordered(by_rank: list[NodeView], placed: str | None, active: Mapping[str, int]) -> list[NodeView]:
    if not by_rank:
        return []
    own = next((node for node in by_rank if node.id == placed), None) or _home(by_rank, active)
    others = sorted(by_rank, key=lambda node: (not node.has_room, node.load if not node.has_room else 0))
    return [own, *(node for node in others if node is not own)]


def _home(by_rank: list[NodeView], active: Mapping[str, int]) -> NodeView:
    """Where a conversation that is nowhere yet is to stay. Hashing alone once put 7, 1 and 0 of 8 on three nodes."""
    own = by_rank[0]
    quietest = min(by_rank, key=lambda node: active.get(node.id, 0) / node.parallel)
    if active.get(own.id, 0) >= active.get(quietest.id, 0) + own.parallel:
        own = quietest
    by_load = _by_load(by_rank)
    return own if own.has_room or not by_load[0].has_room else by_load[0]


def _worth_a_wait(nodes: Sequence[NodeView], placed: str | None, spent: Collection[str]) -> bool:
    own = next((node for node in nodes if node.id == placed), None)
    return own is not None and own.returning and own.id not in spent
