"""The end of a fleet whose time or money is over: its nodes finish what they do, leave the gateway, and nothing of them bills any more."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import SilentProgress
from llmhost.core.rentals import Rental
from llmhost.fleet.commit import Desk, gateway_token, hold
from llmhost.fleet.desired import VAST, in_phase, serving
from llmhost.fleet.installation import installation_id
from llmhost.fleet.links import pins_of
from llmhost.fleet.rented.books import RENTAL
from llmhost.fleet.rented.desk import RentDesk
from llmhost.fleet.rented.ending import Ended, end
from llmhost.fleet.rented.timing import RentTiming
from llmhost.fleet.retire import dismiss, drain
from llmhost.providers.market import Market
from llmhost.supervisor.launch import find_supervisor

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

log = logging.getLogger("llmhost.watch")
# A lease that ended, or a budget that is spent, may wait so long for answers under way: with the destroying less than a minute passes.
DRAIN_S = 45.0

ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class Home:
    """Whose fleets these are."""

    settings: Settings
    paths: Paths


@dataclass(frozen=True, slots=True)
class Place:
    """What ending takes: the market, and whose fleets these are."""

    market: Market
    settings: Settings
    paths: Paths

    @property
    def home(self) -> Home:
        return Home(self.settings, self.paths)

    def desk(self, ledger: Ledger) -> RentDesk:
        """For renting and ending. Raises LlmhostError (`state_unwritable`)."""
        return RentDesk(self.market, ledger, installation_id(self.paths), RentTiming.of(self.settings))


def end_fleet(fleet: str, why: str, place: Place, still: Callable[[Ledger], bool] = lambda ledger: True) -> list[Ended]:
    """Drain and destroy everything a fleet has rented, verified. What could not be verified stays `destroying`, for the next round.

    `still` is asked once more after the draining, in which a lease may be extended, or somebody come back: when it says no, the nodes
    serve again and nothing is ended. A gateway or a supervisor that cannot be told keeps nothing from being destroyed. Raises LlmhostError
    for a ledger that cannot be used.
    """
    with Ledger.open(place.paths.ledger_file) as ledger:
        desk = place.desk(ledger)
        ids = _ids_on(ledger.rentals.all(fleet, open_only=True), ledger)
        _drain(ids, place, ledger)
        if not still(ledger):
            _serve_on(ids, place, ledger)
            return []
        rentals = [_doomed(rental, desk, why) for rental in ledger.rentals.all(fleet, open_only=True)]
        _dismiss(ids, place, ledger)
        ended = end(rentals, desk, why)
        forget_nodes(place.home, ledger, fleet)
        return ended


def _ids_on(rentals: Sequence[Rental], ledger: Ledger) -> set[str]:
    """The nodes that serve on these machines."""
    labels = {rental.label for rental in rentals}
    return {node.id for node in serving(ledger.nodes()) if node.spec.get(RENTAL) in labels}


def _doomed(rental: Rental, desk: RentDesk, why: str) -> Rental:
    """Written down as ending, where that can be, so that from here on nobody is promised that it goes on."""
    if rental.state in ("rented", "ready"):
        with logged("the end could not be written down"):
            return desk.move(rental, "destroying", why=why)
    return rental


def _drain(ids: set[str], place: Place, ledger: Ledger) -> None:
    """They get no new work, and finish what they do for a bounded time."""
    with logged("the nodes could not be drained"), desk_of(place.home, ledger) as desk:
        if desk is not None:
            drain(desk, ids, SilentProgress(), DRAIN_S)


def _dismiss(ids: set[str], place: Place, ledger: Ledger) -> None:
    """They leave the gateway."""
    with logged("the nodes could not be dismissed"), desk_of(place.home, ledger) as desk:
        if desk is not None and ids:
            dismiss(desk, ids)


def _serve_on(ids: set[str], place: Place, ledger: Ledger) -> None:
    """They take work again."""
    gateway = ledger.gateway()
    with logged("the nodes could not be put into service again"), desk_of(place.home, ledger) as desk:
        if desk is not None and gateway is not None and ids:
            hold(desk, lambda nodes: [in_phase(node, None) if node.id in ids else node for node in nodes], gateway)


def forget_nodes(home: Home, ledger: Ledger, fleet: str | None = None) -> list[NodeRecord]:
    """Take away the records of nodes whose machines are gone, of a fleet or of all, and tell the gateway; the records."""
    gone = lost_nodes(ledger, fleet)
    ids = {node.id for node in gone}
    if not ids:
        return []
    with logged("the gateway could not be told which nodes are gone"), desk_of(home, ledger) as desk:
        gateway = ledger.gateway()
        if desk is not None and gateway is not None:
            hold(desk, lambda nodes: [node for node in nodes if node.id not in ids], gateway)
    with ledger.transaction():
        for id in ids:
            ledger.remove_node(id)
        if not ledger.nodes():
            ledger.put_gateway(None)
    for node in gone:
        pins_of(home.paths).forget(node.spec["alias"])
    return gone


def lost_nodes(ledger: Ledger, fleet: str | None = None) -> list[NodeRecord]:
    """Records of nodes on machines that are not rented any more."""
    open_labels = {rental.label for rental in ledger.rentals.all(open_only=True)}
    rented = (node for node in ledger.nodes(fleet) if node.provider == VAST)
    return [node for node in rented if node.spec.get(RENTAL) not in open_labels]


@contextlib.contextmanager
def desk_of(home: Home, ledger: Ledger) -> Iterator[Desk | None]:
    """What changes take that the supervisor must hear of; None when none runs."""
    client = find_supervisor(home.paths, ANSWER_S)
    if client is None:
        yield None
        return
    with client:
        yield Desk(ledger, client, home.settings, home.paths, gateway_token(home.paths))


@contextlib.contextmanager
def logged(what: str) -> Iterator[None]:
    """Trouble here is told, and what follows is done all the same."""
    try:
        yield
    except LlmhostError as error:
        log.warning(what, extra={"code": error.code, "why": error.message})
