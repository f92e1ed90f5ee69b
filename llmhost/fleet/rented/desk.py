"""What everything that rents or ends works with."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger
from llmhost.core.progress import Progress, SilentProgress
from llmhost.core.rentals import NEXT, Rental, RentalState
from llmhost.fleet.rented.clock import Clock
from llmhost.fleet.rented.interrupts import current
from llmhost.fleet.rented.timing import RentTiming
from llmhost.providers.market import Instance, Market


@dataclass(frozen=True, slots=True)
class RentDesk:
    """One market, one ledger, and who rents. Threads may share one."""

    market: Market
    ledger: Ledger
    installation: str
    timing: RentTiming = field(default_factory=RentTiming)
    progress: Progress = field(default_factory=SilentProgress)
    clock: Clock = field(default_factory=Clock)

    def now(self) -> datetime:
        return self.clock.now()

    def pause(self, seconds: float) -> None:
        """Wait. Raises Interrupted when the user insists on an end."""
        current().pause(seconds, self.clock)

    def listed(self) -> list[Instance] | None:
        """Everything of the account, each once; None = no answer."""
        try:
            return once_each(self.market.instances())
        except LlmhostError:
            return None

    def stamp(self) -> str:
        """Now, RFC 3339."""
        return self.now().isoformat(timespec="milliseconds")

    def move(self, rental: Rental, state: RentalState, **fields: Any) -> Rental:
        """As the ledger's, but somebody else may have been faster: then what it says holds. Raises what the ledger raises."""
        kept = self.ledger.rentals.get(rental.label)
        if kept is not None and (not kept.is_open or state not in (kept.state, *NEXT[kept.state])):
            return kept
        return self.ledger.rentals.move(rental.label, state, **fields)

    def age_s(self, since: str | None) -> float:
        """Seconds since a time of the ledger; 0 for one of the future, a clock having been set."""
        if since is None:
            return 0.0
        return max(0.0, (self.now() - datetime.fromisoformat(since)).total_seconds())


def once_each(instances: list[Instance]) -> list[Instance]:
    """A row may come twice, when pages shift while they are read."""
    return list({instance.id: instance for instance in instances}.values())
