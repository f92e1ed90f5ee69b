"""What ledger and market say before anything is decided."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmhost.core.ledger import GatewayRecord, Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.rentals import MachineNote, Rental, Terms
from llmhost.fleet.desired import phase_of
from llmhost.fleet.installation import installation_id
from llmhost.fleet.rented.desk import RentDesk
from llmhost.fleet.rented.reconcile import Reconciled, reconcile
from llmhost.fleet.rented.timing import RentTiming
from llmhost.providers.market import Market

if TYPE_CHECKING:
    from llmhost.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Seen:
    """What ledger and market say. `found` None = the market was not asked; `at_work` = another `up` or `down` goes on."""

    nodes: list[NodeRecord]
    gateway: GatewayRecord | None
    rentals: list[Rental]
    terms: Terms | None = None
    machines: dict[int, MachineNote] = field(default_factory=dict)
    credit_usd: float | None = None
    found: Reconciled | None = None
    at_work: bool = False

    @property
    def mark(self) -> tuple[Any, ...]:
        """Equal as long as nothing was rented, ended or brought up, and nobody moved the end of the lease or the budget."""
        nodes = sorted((node.id, node.provider, node.model or "", phase_of(node) or "") for node in self.nodes)
        open_ones = sorted((rental.label, rental.state) for rental in self.rentals if rental.is_open)
        money = (self.terms.lease_ends_at, self.terms.budget_usd) if self.terms else ()
        return (*nodes, *open_ones, money)


def look(fleet: str, settings: Settings, paths: Paths, market: Market, progress: Progress, *, at_work: bool) -> Seen:
    """Reconcile, then read the ledger. Raises Unavailable, AuthenticationNeeded, LlmhostError, Interrupted."""
    paths.create()
    progress.phase("market", f"asking {market.name} what is rented")
    with Ledger.open(paths.ledger_file) as ledger:
        desk = RentDesk(market, ledger, installation_id(paths), RentTiming.of(settings), progress)
        found = reconcile(desk, at_work=at_work)
        return replace(_read(ledger, fleet), found=found, at_work=at_work)


def glance(fleet: str, paths: Paths) -> Seen:
    """What the ledger says; nothing is asked, and nothing written."""
    ledger = Ledger.open_existing(paths.ledger_file)
    if ledger is None:
        return Seen([], None, [])
    with ledger:
        return _read(ledger, fleet)


def _read(ledger: Ledger, fleet: str) -> Seen:
    rentals = ledger.rentals
    credit = rentals.inventory().credit_usd
    return Seen(ledger.nodes(), ledger.gateway(), rentals.all(), rentals.terms(fleet), rentals.machines(), credit)
