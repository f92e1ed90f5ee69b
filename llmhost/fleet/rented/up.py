"""`up --provider vast`: makes a plan with rented machines hold. What it rented and does not serve in the end is ended, verified."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmhost.core.errors import Interrupted, LlmhostError, StillBilling, Unavailable
from llmhost.core.ledger import Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.rentals import Rental, Terms
from llmhost.core.result import Result
from llmhost.fleet.commit import Desk, any_change, gateway_token, send, undone_on_failure
from llmhost.fleet.desired import SUPERVISOR
from llmhost.fleet.installation import installation_id, remember_renting
from llmhost.fleet.into_service import Outcome, result_of, serve, want
from llmhost.fleet.node_progress import Board
from llmhost.fleet.rented import agreement
from llmhost.fleet.rented.access_key import ready_key
from llmhost.fleet.rented.awake import every_s, kept_awake, tell_lease
from llmhost.fleet.rented.books import RENTAL
from llmhost.fleet.rented.change import Changing
from llmhost.fleet.rented.crew import bring_up
from llmhost.fleet.rented.desk import RentDesk
from llmhost.fleet.rented.ending import end
from llmhost.fleet.rented.interrupts import deferred
from llmhost.fleet.rented.leave import SILENT_PART
from llmhost.fleet.rented.ownership import label_of_row, parse
from llmhost.fleet.rented.parting import still_billing
from llmhost.fleet.rented.plan import RentedPlan
from llmhost.fleet.rented.timing import RentTiming
from llmhost.fleet.rented.watchtower import Watchtower
from llmhost.fleet.rented.work import Pool, Site, fill
from llmhost.fleet.succession import replaced
from llmhost.fleet.visit import Visits
from llmhost.providers.market import Market
from llmhost.supervisor.launch import ensure_supervisor, is_running

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

UNSETTLED = "interrupted_unsettled"


def up_rented(plan: RentedPlan, settings: Settings, paths: Paths, market: Market, progress: Progress) -> Result:
    """Carry out a plan. The turn must be ours. `data` as that of every `up`; raises as Prepared.carry_out."""
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger.open(paths.ledger_file))
        token = gateway_token(paths)
        started_here = not is_running(paths)
        client = stack.enter_context(ensure_supervisor(paths, progress.note, module=SUPERVISOR))
        # The watch comes first: whatever becomes of this process from here on, somebody knows what is rented.
        desk = Desk(ledger, client, settings, paths, token, watch=bool(plan.seats))
        work = _Work(desk, plan, market, progress, Changing(settings, paths, progress))
        with undone_on_failure(desk, progress, started_here=started_here), work.ended_on_failure():
            outcome = work.carry_out()
        # from here on nothing is undone: it serves
        let_go = replaced(desk, plan.leaving, progress)
        result = result_of(desk, plan, outcome)
        let_go.into(result)
        return result


@dataclass(frozen=True, slots=True)
class _Work:
    desk: Desk
    plan: RentedPlan
    market: Market
    progress: Progress
    changing: Changing

    def carry_out(self) -> Outcome:
        self._end_leftovers()
        terms, new_money = self._agree()
        records = self._rent(terms) if self.plan.seats else []
        records += self.changing.make(self.plan.changed) if self.plan.changed else []
        did = want(self.desk, self.plan, records, self.plan.lost)
        changed = bool(records) or bool(self.plan.leaving) or any_change(did)
        # one that is there already and has a trouble of its own must not cost us the new ones
        ids = [record.id for record in records] or [one.node.id for one in self.plan.kept]
        proof = serve(self.desk, ids, self.progress, changed=changed) if self.plan.tunnel else None
        self._mark_ready([*records, *(one.node for one in self.plan.kept)])
        if not changed:
            self.progress.note(f"already up as asked for: nothing {'else ' if new_money else ''}changed")
        return Outcome(did, changed, proof, [*self.plan.warnings, *self._without_tunnel(records)])

    def _end_leftovers(self) -> None:
        """What an earlier `up` or `down` left must not bill beside the new. Raises StillBilling."""
        if self.plan.leftovers:
            names = ", ".join(f"{one.node_id} (instance {one.instance_id})" for one in self.plan.leftovers)
            self.progress.phase("destroy", f"ending {names}, which serves nobody")
            self._end(self.plan.leftovers, "it served nobody")

    def _agree(self) -> tuple[Terms, bool]:
        """The terms that hold from now on, and whether the budget is another one."""
        terms, changes = agreement.agree(self.desk.ledger, self.plan)
        for change in changes:
            self.progress.note(change)
        return terms, bool(changes)

    def _rent(self, terms: Terms) -> list[NodeRecord]:
        """Every seat at once. One that fails ends all: what was asked for is all of it."""
        desk, plan = self.desk, self.plan
        remember_renting(desk.paths)
        send(desk, desk.ledger.nodes(), desk.ledger.gateway(), keep=True)
        stop, seats = threading.Event(), list(zip(plan.seats, plan.taken, strict=True))
        board = Board(self.progress)
        pause_s = every_s(desk.settings.vast_contact_s, terms.idle_s)
        with (
            deferred(self._tell_interrupted) as interrupts,
            Visits(desk.settings, desk.paths) as visits,
            kept_awake(visits, pause_s),
        ):
            site = self._site(terms, visits, stop)
            records = bring_up(
                seats, lambda pair: fill(*pair, site, board.node(pair[0].node_id)), stop, interrupts, visits.close
            )
            tell_lease(visits, terms, desk.ledger.rentals.terms(plan.fleet))
            return records

    def _site(self, terms: Terms, visits: Visits, stop: threading.Event) -> Site:
        from llmhost.providers.vast.key import find_key

        desk, plan = self.desk, self.plan
        return Site(
            plan=plan,
            terms=terms,
            market=self.market,
            settings=desk.settings,
            paths=desk.paths,
            installation=installation_id(desk.paths),
            key=ready_key(self.market, desk.paths, self.progress),
            pool=Pool(list(plan.offers[len(plan.seats) :])),
            watchtower=Watchtower(self.market, desk.settings.vast_poll_s),
            visits=visits,
            stop=stop,
            account_key=find_key(desk.settings),
        )

    def _tell_interrupted(self) -> None:
        self.progress.note("interrupted: what was rented is ended first; interrupt again to leave it as it is")

    def _mark_ready(self, nodes: Sequence[NodeRecord]) -> None:
        rentals = self.desk.ledger.rentals
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        for node in nodes:
            rental = rentals.get(str(node.spec.get(RENTAL)))
            if rental is not None and rental.state == "rented":
                rentals.move(rental.label, "ready", ready_at=now, phase="ready", detail=None)

    def _without_tunnel(self, records: Sequence[NodeRecord]) -> list[str]:
        if self.plan.tunnel or not records:
            return []
        least_s = min(self.desk.settings.vast_contact_s, self.plan.terms.idle_s or math.inf)
        minutes = max(1.0, least_s / 60)
        return [f"without a link the machines end themselves after {minutes:.0f} minutes; to open one: llmhost tunnel"]

    @contextlib.contextmanager
    def ended_on_failure(self) -> Iterator[None]:
        """Whatever ends the block early, nothing of what it rented bills. Raises StillBilling where that is not sure."""
        before = self.desk.ledger.rentals.terms(self.plan.fleet)
        try:
            yield
        except BaseException as why:
            if not isinstance(why, Interrupted) or why.code != UNSETTLED:
                try:
                    self._undo(why)
                finally:
                    agreement.take_back(self.desk.ledger, self.plan, before)
                self.changing.undo()
            raise

    def _undo(self, why: BaseException) -> None:
        mine = self._rented_here()
        if not mine:
            return
        self.progress.phase("destroy", f"ending what was rented: {', '.join(one.node_id for one in mine)}")
        try:
            code = why.code if isinstance(why, LlmhostError) else "interrupted"
            again = isinstance(why, Interrupted | KeyboardInterrupt)
            self._end(mine, code, silent=isinstance(why, StillBilling), again=again)
        except StillBilling as billing:
            raise billing if isinstance(why, StillBilling) else _beside(billing, why) from why
        if isinstance(why, StillBilling):
            raise Unavailable(
                f"{why.message} By now it is known: nothing of it bills.", hint="llmhost up", code=why.code
            )

    def _rented_here(self) -> list[Rental]:
        """By the nodes' own numbers in the labels: also what nobody had an answer for."""
        uuids = {seat.uuid for seat in self.plan.seats}
        found = []
        for rental in self.desk.ledger.rentals.all(self.plan.fleet, open_only=True):
            label = parse(label_of_row(rental.label))
            if label is not None and label.node_uuid in uuids:
                found.append(rental)
        return found

    def _end(self, rentals: Sequence[Rental], why: str, *, silent: bool = False, again: bool = False) -> None:
        """Raises StillBilling, with everything that may bill.

        `silent` = the market did not answer for long already, `again` = the user has interrupted once.
        """
        desk = self.desk
        timing = RentTiming.of(desk.settings)
        timing = replace(timing, verify_s=timing.verify_s * SILENT_PART) if silent else timing
        with deferred(self._tell_interrupted) as interrupts:
            if again:
                interrupts.asked.set()  # the next one is the second
            place = RentDesk(self.market, desk.ledger, installation_id(desk.paths), timing, self.progress)
            left = [one for one in end(rentals, place, why) if not one.verified]
            if left:
                raise still_billing([one.rental for one in left], left[0].error)


def _beside(billing: StillBilling, why: BaseException) -> StillBilling:
    """What bills, and what it began with."""
    first = f"{why.message.rstrip('.')}. And " if isinstance(why, LlmhostError) and why.message else ""
    return StillBilling(f"{first}{billing.message}", hint=billing.hint, code=billing.code)
