"""What the ledger knows of rented machines and their money, read at once for `status`, `cost` and `doctor`."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from llmhost.core import secrets
from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.rentals import Inventory, Rental, Terms
from llmhost.fleet.rented import memory
from llmhost.fleet.rented.budget import Standing, standing
from llmhost.fleet.rented.inventory_view import at_rest, paired

RENTAL = "rental"  # in a node's spec: the label of the machine it is on


@dataclass(frozen=True, slots=True)
class Books:
    """`rentals` are all there ever were, of all fleets; `terms` and `idle_since` (RFC 3339) by fleet."""

    rentals: tuple[Rental, ...] = ()
    terms: dict[str, Terms] = field(default_factory=dict)
    inventory: Inventory = field(default_factory=Inventory)
    idle_since: dict[str, str] = field(default_factory=dict)
    installation: str | None = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def open(self) -> list[Rental]:
        """What bills, or may, in any fleet."""
        return [rental for rental in self.rentals if rental.is_open]

    def standing(self, fleet: str) -> Standing:
        return standing(fleet, self.terms.get(fleet), self.rentals, self.now)

    def rental_of(self, node: NodeRecord) -> Rental | None:
        """The machine a node is on; None for one that is not rented."""
        label = node.spec.get(RENTAL)
        return next((rental for rental in self.rentals if rental.label == label), None) if label else None

    def at_rest(self, node: NodeRecord) -> str | None:
        """What the market said last of a node's machine that does not run; None = it runs, or nothing is known."""
        rental = self.rental_of(node)
        return next((at_rest(row) for _rental, row in paired(self.inventory, [rental] if rental else [])), None)

    def without_node(self, fleet: str, nodes: list[NodeRecord]) -> list[Rental]:
        """What a fleet has rented, and no node is on it: not yet, not any more, or nobody knows."""
        known = {node.spec.get(RENTAL) for node in nodes}
        return [rental for rental in self.open if rental.fleet == fleet and rental.label not in known]


def read_books(ledger: Ledger, paths: Paths) -> Books:
    """Raises what the ledger raises."""
    rentals = tuple(ledger.rentals.all())
    fleets = {rental.fleet for rental in rentals}
    terms = {fleet: known for fleet in fleets if (known := ledger.rentals.terms(fleet)) is not None}
    idle_since: dict[str, Any] = memory.load(paths).idle_since if rentals else {}
    return Books(rentals, terms, ledger.rentals.inventory(), idle_since, installation_of(paths))


def installation_of(paths: Paths) -> str | None:
    """Our id, without making one; None when there is none that can be read."""
    try:
        return secrets.read(paths.installation_id_file)
    except LlmhostError:
        return None
