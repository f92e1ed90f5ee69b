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
from llmhost.fleet.rented.payer import ACCOUNT, Payer, differs
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
    payer: Payer = field(default_factory=Payer)

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
        if kept is not None and _too_late(kept, state):
            return kept
        try:
            return self.ledger.rentals.move(rental.label, state, **fields)
        except LlmhostError:
            kept = self.ledger.rentals.get(rental.label)
            if kept is None or not _too_late(kept, state):
                raise
            return kept  # between the two looks

    def age_s(self, since: str | None) -> float:
        """Seconds since a time of the ledger; 0 for one of the future, a clock having been set."""
        return max(0.0, self._since(since))

    def is_anothers(self, rental: Rental) -> bool:
        """Whether another account pays for it than that of the key at hand, whose lists say nothing of it then."""
        return ACCOUNT in rental.terms and differs(rental, self.payer.of(self.market))

    def lag_left_s(self, rental: Rental) -> float:
        """How long the market's list may still lag behind an attempt whose maker may be dead.

        While nobody wrote down how its call ended (`intent`), the market may be at work on it until the call's own time ran out.
        """
        timing = self.timing
        left = max(0.0, timing.write_timeout_s + timing.settle_s - self.age_s(rental.created_at))
        return left if rental.state == "intent" else min(timing.settle_s, left)

    def apart_s(self, since: str) -> float:
        """Seconds between now and a time of the ledger, also one of the future: it is not from a moment ago."""
        return abs(self._since(since))

    def _since(self, since: str | None) -> float:
        return 0.0 if since is None else (self.now() - datetime.fromisoformat(since)).total_seconds()


def _too_late(kept: Rental, state: RentalState) -> bool:
    return not kept.is_open or state not in (kept.state, *NEXT[kept.state])


def once_each(instances: list[Instance]) -> list[Instance]:
    """A row may come twice, when pages shift while they are read."""
    return list({instance.id: instance for instance in instances}.values())
