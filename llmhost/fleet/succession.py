"""After `up`: the nodes that the new ones take the place of are let go."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import NodeRecord
from llmhost.core.progress import Progress
from llmhost.core.result import Result
from llmhost.fleet.commit import Desk
from llmhost.fleet.desired import SSH, VAST
from llmhost.fleet.retire import dismiss, drain, left_behind, take_away


@dataclass(slots=True)
class Succession:
    """What went wrong with them: `warnings` about machines of the user's own, `errors` about those that may still bill."""

    warnings: list[str] = field(default_factory=list)
    errors: list[LlmhostError] = field(default_factory=list)

    def into(self, result: Result) -> None:
        """Tell it with the rest of what `up` did."""
        result.warnings += self.warnings
        for error in self.errors:
            result.errors.append(error.as_dict())
            result.exit_code = result.exit_code or error.exit_code


def replaced(desk: Desk, ids: Collection[str], progress: Progress) -> Succession:
    """Let these nodes finish, end them and forget them. What could not be ended stays in the ledger."""
    done = Succession()
    if not ids:
        return done
    drain(desk, ids, progress)
    dismiss(desk, ids)
    there = [node for node in desk.ledger.nodes() if node.id in ids]
    gone = _taken_away([node for node in there if node.provider == SSH], desk, progress, done)
    gone |= _ended([node for node in there if node.provider == VAST], desk, progress, done)
    with desk.ledger.transaction():
        for id in gone:
            desk.ledger.remove_node(id)
    return done


def _taken_away(nodes: list[NodeRecord], desk: Desk, progress: Progress, done: Succession) -> set[str]:
    departures = take_away(nodes, desk.settings, desk.paths, progress)
    done.warnings += [left_behind(one).message for one in departures if one.error is not None]
    return {one.node.id for one in departures if one.error is None}


def _ended(nodes: list[NodeRecord], desk: Desk, progress: Progress, done: Succession) -> set[str]:
    """Rented ones: what of them is not verified to be gone is an error."""
    if not nodes:
        return set()
    from llmhost.fleet.rented.books import RENTAL
    from llmhost.fleet.rented.leave import Scope, end_rented

    labels = {str(node.spec.get(RENTAL)) for node in nodes}
    rentals = [one for one in desk.ledger.rentals.all(open_only=True) if one.label in labels]
    scope = Scope(nodes[0].fleet, tuple(node.id for node in nodes))
    parting = end_rented(rentals, scope, desk.settings, desk.paths, progress, "others took its place")
    done.errors += parting.errors
    left = {one.label for one in parting.open}
    return {node.id for node in nodes if str(node.spec.get(RENTAL)) not in left}
