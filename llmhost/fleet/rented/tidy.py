"""What the watch sets right when nobody else is at work: what a dead `up` left, addresses that changed, nodes whose machines are gone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

from llmhost.core.ledger import Ledger, NodeRecord
from llmhost.core.rentals import Rental
from llmhost.fleet.commit import hold
from llmhost.fleet.desired import VAST, phase_of, serving
from llmhost.fleet.rented.addresses import moved
from llmhost.fleet.rented.books import RENTAL
from llmhost.fleet.rented.desk import RentDesk
from llmhost.fleet.rented.ending import Ended, end
from llmhost.fleet.rented.enforce import Place, desk_of, forget_nodes, lost_nodes
from llmhost.fleet.rented.inventory_view import instances
from llmhost.fleet.rented.reconcile import reconcile
from llmhost.fleet.turn import try_turn
from llmhost.providers.market import Instance
from llmhost.ssh.target import SshTarget

log = logging.getLogger("llmhost.watch")
ABANDONED = "its up was interrupted"


def is_needed(ledger: Ledger) -> bool:
    """Whether anything of it is to be done, as far as the ledger knows."""
    states = {rental.state for rental in ledger.rentals.all(open_only=True)} - {"ready"}
    if states or lost_nodes(ledger) or forgotten(ledger):
        return True
    return any(_moves(ledger.nodes(), instances(ledger.rentals.inventory()), ledger.rentals.all(open_only=True)))


def tidy(place: Place) -> list[Ended]:
    """Do it, if nobody has the turn; what was ended. Raises Unavailable or AuthenticationNeeded of the market, what the ledger raises."""
    with Ledger.open(place.paths.ledger_file) as ledger:
        desk = place.desk(ledger)
        with try_turn(place.paths) as mine:
            if not mine:
                return []
            found = reconcile(desk)
            serve_again(place, ledger, found.instances)
            doomed = _left(desk, [*found.unfinished, *forgotten(ledger)])
            forget_nodes(place.home, ledger)
            forget_terms(ledger)
        # written down as ending: nobody takes them for something to go on with, so the turn need not be kept until it is verified
        return end(doomed, desk, ABANDONED)


def forgotten(ledger: Ledger) -> list[Rental]:
    """Machines that are said to serve, and no node is on them: whoever made them ready came no further."""
    known = {node.spec.get(RENTAL) for node in ledger.nodes()}
    return [one for one in ledger.rentals.all(open_only=True) if one.state == "ready" and one.label not in known]


def serve_again(place: Place, ledger: Ledger, listed: Sequence[Instance]) -> list[str]:
    """Lead the links of nodes whose address changed to where they are now; their names. The host key stays the one that is pinned."""
    moves = dict(_moves(ledger.nodes(), listed, ledger.rentals.all(open_only=True)))
    if not moves:
        return []
    with desk_of(place.home, ledger) as desk:
        gateway = ledger.gateway()
        if desk is None or gateway is None:
            return []
        hold(desk, lambda nodes: [_at(node, moves.get(node.id)) for node in nodes], gateway)
    for id, target in moves.items():
        log.info("a node has another address", extra={"node": id, "now": str(target)})
    return list(moves)


def _moves(
    nodes: Sequence[NodeRecord], listed: Sequence[Instance], rentals: Sequence[Rental]
) -> Iterator[tuple[str, SshTarget]]:
    rows = {instance.id: instance for instance in listed}
    machines = {rental.label: rental.instance_id for rental in rentals}
    for node in serving(list(nodes)):
        number = machines.get(str(node.spec.get(RENTAL)))
        row = rows.get(number) if node.provider == VAST and number is not None else None
        target = moved(SshTarget.from_dict(node.spec["target"]), row) if row else None
        if target is not None:
            yield node.id, target


def _at(node: NodeRecord, target: SshTarget | None) -> NodeRecord:
    return node if target is None else replace(node, spec={**node.spec, "target": target.as_dict()})


def _left(desk: RentDesk, abandoned: Sequence[Rental]) -> list[Rental]:
    """Those of them that serve nobody, written down as ending. One whose node was put into service is ready: only that was not written."""
    in_service = {node.spec.get(RENTAL) for node in desk.ledger.nodes() if phase_of(node) is None}
    for rental in abandoned:
        if rental.label in in_service and rental.state == "rented":
            desk.move(rental, "ready", ready_at=desk.stamp())
    doomed = [rental for rental in abandoned if rental.label not in in_service]
    return [desk.move(rental, "destroying", why=ABANDONED) for rental in doomed]


def forget_terms(ledger: Ledger) -> None:
    """Of fleets that have nothing rented any more."""
    rentals = ledger.rentals.all()
    for fleet in {rental.fleet for rental in rentals} - {rental.fleet for rental in rentals if rental.is_open}:
        ledger.rentals.forget_terms(fleet)
