"""The end of what is rented: everything in the ledger that may bill, and what the market knows of ours that the ledger does not."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmhost.core import secrets
from llmhost.core.errors import AuthenticationNeeded, Interrupted, LlmhostError
from llmhost.core.ledger import Ledger
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.rentals import Rental
from llmhost.fleet.installation import forget_renting
from llmhost.fleet.rented import bill
from llmhost.fleet.rented.desk import RentDesk
from llmhost.fleet.rented.ownership import label_of_row, parse
from llmhost.fleet.rented.parting import (
    KEY_HINT,
    Parting,
    billing_row,
    ended_row,
    no_id,
    shown,
    still_billing,
    untouched,
    was_bought,
)
from llmhost.fleet.rented.rescue import Rescued, at_hand, is_lost
from llmhost.fleet.rented.timing import RentTiming

if TYPE_CHECKING:
    from llmhost.core.settings import Settings
    from llmhost.fleet.rented.ending import Ended
    from llmhost.fleet.rented.reconcile import Orphan, Reconciled

# How much of its usual patience a market gets that did not even say what is rented.
SILENT_PART = 1 / 6
# What was begun earlier is gone on with for so long before everything else is told to end.
FIRST_LOOK_S = 15.0


@dataclass(frozen=True, slots=True)
class Scope:
    """What is to end: these nodes of a fleet (none named: all of it), or every fleet of this installation."""

    fleet: str
    names: tuple[str, ...] = ()
    everything: bool = False

    def has(self, rental: Rental) -> bool:
        """Whether a rental is meant."""
        return self._has_fleet(rental.fleet) and (not self.names or rental.node_id in self.names)

    def has_orphan(self, orphan: Orphan) -> bool:
        """Whether something is meant that no ledger knows: it has no name that could have been said."""
        return not self.names and self._has_fleet(orphan.label.fleet)

    def _has_fleet(self, fleet: str) -> bool:
        return self.everything or fleet == self.fleet


def must_ask(ledger: Ledger | None, scope: Scope, settings: Settings, paths: Paths) -> bool:
    """Whether the market has anything to do with it. `ledger` None = there is none that can be read.

    Who never rented never waits for the network: a ledger says so, or the mark beside the installation's id, where the ledger was lost or
    there is a new one. Who rented, and has no ledger that says what, is to be told that nobody knows, also without a key.
    """
    from llmhost.providers.vast.key import find_key

    known = ledger.rentals.all() if ledger else []
    if any(rental.is_open and scope.has(rental) for rental in known):
        return True
    if scope.names or is_lost(ledger, paths):
        return not scope.names
    never = ledger is not None and not known
    if never or secrets.read(paths.installation_id_file) is None:
        return False
    return find_key(settings, None) is not None


def end_rented(
    rentals: Sequence[Rental],
    scope: Scope,
    settings: Settings,
    paths: Paths,
    progress: Progress,
    why: str,
    *,
    books: Rescued | None = None,
) -> Parting:
    """End these rentals and the orphans of the scope, and verify it. Works with a ledger that is gone, damaged or cannot be written, too.

    `books` = the ledger to work with, where it was opened already; it stays open. Never raises for what the market does: it is in `errors`
    (StillBilling when something may bill), with everything that may bill.
    """
    from llmhost.providers.vast.market import open_market

    installation = _installation(rentals, paths)
    try:
        market = open_market(settings)
    except AuthenticationNeeded as error:
        return untouched(rentals, LlmhostError(error.message, hint=KEY_HINT, code=error.code))
    if installation is None:
        return Parting(errors=(no_id(),))
    with at_hand(paths, rentals) if books is None else contextlib.nullcontext(books) as found:
        desk = RentDesk(market, found.ledger, installation, RentTiming.of(settings), progress)
        parting = _Ending(desk, scope, why, found.complete).carry_out(rentals)
        if parting.nothing_of_ours:
            forget_renting(paths)
        return replace(parting, unwritten=found.trouble)


@dataclass(frozen=True, slots=True)
class _Ending:
    desk: RentDesk
    scope: Scope
    why: str
    complete: bool = True

    def carry_out(self, rentals: Sequence[Rental]) -> Parting:
        from llmhost.fleet.rented.ending import end
        from llmhost.fleet.rented.interrupts import deferred

        self.desk.progress.phase("destroy", "asking the market what is rented")
        with deferred(self._tell_again) as interrupts:
            orphans, found, trouble = self._reconciled()
            there = [rental for rental in self._now(rentals) if rental.is_open]
            if isinstance(trouble, AuthenticationNeeded) and trouble.code != "no_permission":
                return untouched(there, trouble)
            self._say([*there, *orphans])
            ended = end([*there, *orphans], self._patience(trouble), self.why)
            nothing = False
            if found is not None and not self.complete:
                late, nothing, trouble = self._late(found)
                ended += end(late, self.desk, self.why)
            parting = replace(self._told(ended, trouble, rentals), nothing_of_ours=nothing)
            if parting.open and interrupts.asked.is_set():
                raise parting.errors[0]  # it says more than the signal, which would be all there is to see
        return parting

    def _tell_again(self) -> None:
        self.desk.progress.note("what is rented is being ended first; interrupt again to leave it as it is")

    def _late(self, found: Reconciled) -> tuple[list[Rental], bool, LlmhostError | None]:
        """Rows for what turns up while the list may lag behind, and whether nothing of ours ever did; the trouble of a market that was not
        heard for so long."""
        from llmhost.fleet.rented.lag import late_orphans

        try:
            late = late_orphans(self.desk, (one.id for one in found.instances))
            return self._remembered(late), not late and not found.orphans, None
        except Interrupted:
            raise
        except LlmhostError as error:
            return [], False, error

    def _remembered(self, orphans: Sequence[Orphan]) -> list[Rental]:
        from llmhost.fleet.rented.claims import remember_orphan

        return [remember_orphan(one.instance, self.desk) for one in orphans if self.scope.has_orphan(one)]

    def _reconciled(self) -> tuple[list[Rental], Reconciled | None, LlmhostError | None]:
        """Rows for the orphans of the scope."""
        from llmhost.fleet.rented.reconcile import reconcile

        try:
            found = reconcile(self.desk, patience_s=FIRST_LOOK_S)  # what it leaves is ended right after
            return self._remembered(found.orphans), found, None
        except Interrupted:
            raise
        except LlmhostError as error:
            return [], None, error

    def _patience(self, trouble: LlmhostError | None) -> RentDesk:
        """A market that does not answer is told what to end, and not waited for until the end of all patience."""
        timing = self.desk.timing
        if trouble is None:
            return self.desk
        return replace(self.desk, timing=replace(timing, verify_s=timing.verify_s * SILENT_PART))

    def _now(self, rentals: Sequence[Rental]) -> list[Rental]:
        """As the ledger has them by now."""
        return [self.desk.ledger.rentals.get(rental.label) or rental for rental in rentals]

    def _say(self, rentals: Sequence[Rental]) -> None:
        names = [shown(one) for one in rentals]
        if names:
            self.desk.progress.phase("destroy", f"ending {', '.join(names)}, until the market lists it no more")

    def _told(self, ended: list[Ended], trouble: LlmhostError | None, asked: Sequence[Rental]) -> Parting:
        labels = {one.rental.label for one in ended}
        # one that reconciling found to be gone already
        before = [rental for rental in self._now(asked) if rental.label not in labels and not rental.is_open]
        destroyed = [self._row(one.rental, verified=one.verified) for one in ended if was_bought(one.rental)]
        destroyed += [self._row(one, verified=True) for one in before if one.instance_id is not None]
        left = [one for one in ended if not one.verified]
        still = tuple(one.rental for one in left)
        why = next((one.error for one in left if one.error is not None), trouble)
        errors = [still_billing(still, why)] if still else [trouble] if trouble else []
        return Parting(tuple(destroyed), tuple(map(billing_row, still)), tuple(errors), still)

    def _row(self, rental: Rental, *, verified: bool) -> dict[str, Any]:
        now = self.desk.now()
        return {
            **ended_row(rental.node_id, rental, verified=verified),
            "spent_usd": round(bill.spent(rental, now), 6),
            "hours": round(bill.hours(rental, now), 4),
        }


def _installation(rentals: Sequence[Rental], paths: Paths) -> str | None:
    """Who we are; where the file of it is lost, our own labels say so."""
    known = secrets.read(paths.installation_id_file)
    labels = (parse(label_of_row(rental.label)) for rental in rentals)
    return known or next((label.installation for label in labels if label is not None), None)
