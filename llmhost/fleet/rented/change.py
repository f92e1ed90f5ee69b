"""Rented nodes that stay and are to serve something else: the bootstrap that brought them up, once more, in place."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmhost.bootstrap.machine import inspect
from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.fleet import model_fit
from llmhost.fleet.hosts import place_of
from llmhost.fleet.node_progress import Board
from llmhost.fleet.remote_node import install, put_back, record_of
from llmhost.fleet.remote_plan import NodePlan
from llmhost.fleet.rented.books import RENTAL
from llmhost.fleet.rented.request import RentWish
from llmhost.fleet.together import all_or_raise, at_once
from llmhost.fleet.visit import Visits
from llmhost.providers.base import BackendChoice
from llmhost.providers.ollama_api import same_model

if TYPE_CHECKING:
    from llmhost.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Change:
    """A node, and what it is to serve. `env` are further variables for its Ollama."""

    node: NodeRecord
    choice: BackendChoice
    env: Mapping[str, str] = field(default_factory=dict)


def change_for(node: NodeRecord, wish: RentWish) -> Change | None:
    """What a node must become for the wish; None = it is that already. Raises NothingSuitable (`model_too_big`) for its card."""
    if _serves(node, wish):
        return None
    if wish.backend == "rehearsal" or wish.model is None:
        return Change(node, BackendChoice("rehearsal", "asked for by name", wish.model, wish.context))
    vram = (node.spec.get("machine") or {}).get("vram_total_mb") or 0
    fit = model_fit.fit(wish.model, vram, wish.context)
    return Change(node, BackendChoice("ollama", "asked for by name", wish.model, fit.context, missing=True), fit.env)


def _serves(node: NodeRecord, wish: RentWish) -> bool:
    same_window = wish.context is None or node.context == wish.context
    if wish.backend == "rehearsal":
        return node.backend == "rehearsal" and same_window
    known = node.model is not None and same_model(wish.model or "", node.model)
    return node.backend == wish.backend and known and same_window


@dataclass(slots=True)
class Changing:
    """Changes nodes, and changes them back."""

    settings: Settings
    paths: Paths
    progress: Progress
    _touched: list[NodeRecord] = field(default_factory=list)

    def make(self, changes: Sequence[Change]) -> list[NodeRecord]:
        """All at once; the records of what they are then. Raises SshFailure, LlmhostError, SeveralFailed."""
        board = Board(self.progress)
        with Visits(self.settings, self.paths) as visits:

            def one(change: Change) -> NodeRecord:
                session = visits.to(change.node)
                plan = NodePlan(
                    place_of(change.node),
                    session,
                    inspect(session),
                    change.choice,
                    "change",
                    rental=change.node.spec[RENTAL],
                    ollama_env=change.env,
                )
                self._touched.append(change.node)
                installed = install(plan, change.node.token, self.settings, board.node(change.node.id))
                return record_of(plan, change.node, installed, self.paths)

            return all_or_raise(at_once(changes, one, visits.close))

    def undo(self) -> None:
        """As they were. What cannot be reached is let be: the failure that brought us here says more."""
        board = Board(self.progress)
        with contextlib.suppress(LlmhostError, OSError), Visits(self.settings, self.paths) as visits:

            def back(node: NodeRecord) -> None:
                put_back(visits.to(node), node, self.settings, board.node(node.id))

            at_once(self._touched, back, visits.close)
