"""One round of the watch after another: look at market, gateway and clock; tell what must be told, end what is over, set right what is not.

The looking and telling is done here and never waits long. What takes time (draining, verified ends) is done in threads, so that the end of
one lease does not wait for that of another.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger
from llmhost.core.paths import Paths
from llmhost.core.rentals import Inventory, Rental
from llmhost.fleet.rented import alerts, bill, budget, idle, inventory_view, memory, tidy, warnings
from llmhost.fleet.rented.enforce import Place, end_fleet
from llmhost.fleet.rented.reconcile import reconcile
from llmhost.fleet.rented.surroundings import Heard, hear
from llmhost.fleet.rented.vanished import why_gone
from llmhost.fleet.rented.warnings import Look
from llmhost.fleet.turn import is_taken
from llmhost.providers.market import Market

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

log = logging.getLogger("llmhost.watch")
# Credit moves slowly, and asking for it is another call.
CREDIT_EVERY_S = 600.0
LEAST_PAUSE_S = 0.05


@dataclass(slots=True)
class Jobs:
    """Work that takes its time, one thread for each name."""

    running: dict[str, threading.Thread] = field(default_factory=dict)

    def start(self, name: str, work: Callable[[], None]) -> bool:
        """Whether it was begun; not while the one before of this name is still at it."""
        if name in self.names():
            return False
        self.running[name] = threading.Thread(target=work, name=name, daemon=True)
        self.running[name].start()
        return True

    def names(self) -> list[str]:
        """What is being done now."""
        self.running = {name: thread for name, thread in self.running.items() if thread.is_alive()}
        return list(self.running)

    def wait(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        for thread in list(self.running.values()):
            thread.join(max(0.0, deadline - time.monotonic()))


class Rounds:
    """`open_market` raises LlmhostError while there is no key; it is tried again each round."""

    def __init__(self, settings: Settings, paths: Paths, open_market: Callable[[Settings], Market]) -> None:
        self._settings = settings
        self._paths = paths
        self._open_market = open_market
        self._market: Market | None = None
        self._memory = memory.load(paths)
        self._trouble: str | None = None
        self._credit_at: float | None = None
        self._heard = Heard()
        self.jobs = Jobs()
        self.told = Jobs()

    def once(self) -> float | None:
        """One round; seconds until the next, None when nothing is rented any more. Raises LlmhostError for a ledger that cannot be used."""
        with Ledger.open(self._paths.ledger_file) as ledger:
            if self._is_done(ledger):
                return None
            self._look_at_market(ledger)
            self._heard = hear(self._paths)
            looks = self._looks(ledger)
            for look in looks:
                self._tell(look, ledger)
            over = [look for look in looks if self._end_if_over(look)]
            busy = is_taken(self._paths) or bool(self.jobs.names())
            if not busy and not over and self._market is not None and tidy.is_needed(ledger):
                self.jobs.start("tidy", self._tidy)
            memory.keep(self._memory, self._paths)
            return self._pause(looks, ledger)

    def _is_done(self, ledger: Ledger) -> bool:
        if self.jobs.names() or is_taken(self._paths):
            return False
        return not ledger.rentals.all(open_only=True)

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _look_at_market(self, ledger: Ledger) -> None:
        """Have the newest list in the ledger; trouble is told when it is another than before, and nothing else waits for it."""
        before = ledger.rentals.inventory()
        try:
            self._market = self._market or self._open_market(self._settings)
            found = reconcile(self._place(self._market).desk(ledger), at_work=True)
            self._ask_credit(self._market, ledger)
        except LlmhostError as error:
            self._note_trouble(ledger, error)
            return
        self._note_trouble(ledger, None)
        for rental in found.vanished:
            self._explain(rental, before, ledger)
        for risen in list(inventory_view.risen(ledger.rentals.inventory(), ledger.rentals.all(open_only=True))):
            terms = bill.raised(risen.rental, risen.now, _now())
            ledger.rentals.move(risen.rental.label, risen.rental.state, terms=terms)
            self._say(warnings.price_alert(risen))

    def _ask_credit(self, market: Market, ledger: Ledger) -> None:
        if self._credit_at is not None and time.monotonic() < self._credit_at + CREDIT_EVERY_S:
            return
        credit = market.account().credit_usd
        self._credit_at = time.monotonic()
        ledger.rentals.put_inventory(replace(ledger.rentals.inventory(), credit_usd=credit))

    def _note_trouble(self, ledger: Ledger, error: LlmhostError | None) -> None:
        text = error.message if error else None
        if error is not None:
            ledger.rentals.put_inventory(replace(ledger.rentals.inventory(), trouble=error.message))
        if text != self._trouble:
            self._trouble = text
            log.log(logging.WARNING if text else logging.INFO, text or "the market answers")

    def _explain(self, rental: Rental, before: Inventory, ledger: Ledger) -> None:
        terms, silent_s = ledger.rentals.terms(rental.fleet), self._heard.silent_s(rental.node_id, _now())
        why = why_gone(rental, before, terms, silent_s, self._settings.vast_contact_s)
        ledger.rentals.move(rental.label, "gone", why=why)
        self._say(warnings.gone_alert(rental.fleet, rental.node_id, why))

    def _looks(self, ledger: Ledger) -> list[Look]:
        """Every fleet that has something rented."""
        now, rentals = _now(), ledger.rentals.all()
        fleets = sorted({rental.fleet for rental in rentals if rental.is_open})
        standings = [budget.standing(name, ledger.rentals.terms(name), rentals, now) for name in fleets]
        dry_at = budget.runs_dry_at(standings, ledger.rentals.inventory().credit_usd, now)
        self._memory.forget(set(fleets))
        return [Look(one, now, self._idle_since(one, now), dry_at) for one in standings]

    def _idle_since(self, standing: budget.Standing, now: datetime) -> datetime | None:
        fleet, ids = standing.fleet, {rental.node_id for rental in standing.open}
        before = self._memory.activity.get(fleet, idle.Activity())
        activity = idle.looked(before, self._heard.nodes, ids, now)
        self._memory.activity[fleet] = activity
        since = idle.idle_since(activity, standing.open)
        self._memory.idle_since.pop(fleet, None)
        if since is not None:
            self._memory.idle_since[fleet] = since.isoformat(timespec="seconds")
        return since

    # ── telling and ending ──────────────────────────────────────────────────────────────────────────────────────

    def _tell(self, look: Look, ledger: Ledger) -> None:
        due = warnings.budget_alerts(look.standing)
        if look.standing.terms is not None:
            self._remember_steps(look.standing, ledger)
        for alert in [*due, *warnings.other_alerts(look, ledger.rentals.inventory(), self._memory)]:
            self._say(alert)

    def _remember_steps(self, standing: budget.Standing, ledger: Ledger) -> None:
        """Before they are told, so that no crash tells them twice; a budget that was raised makes them due again."""
        reached = budget.reached(standing)
        with ledger.transaction():
            terms = ledger.rentals.terms(standing.fleet)
            if terms is not None and terms.alerted != reached and terms.budget_usd == standing.budget_usd:
                ledger.rentals.put_terms(replace(terms, alerted=reached))

    def _end_if_over(self, look: Look) -> bool:
        """Whether the fleet's time or money is over. An idle one is left alone while somebody is at work."""
        why = budget.is_over(look.standing, look.now)
        if why is None and look.idle_ends_at is not None and look.now >= look.idle_ends_at:
            why = None if is_taken(self._paths) else "nobody has used it"
        if why is None:
            return False
        fleet = look.standing.fleet
        if self._memory.first_time(f"ended/{fleet}/{why}/{_period(look)}"):
            self._say(warnings.ended_alert(look, why))
        if self._market is not None:
            place = self._place(self._market)
            self.jobs.start(f"end {fleet}", lambda: self._end(fleet, why, place))
        return True

    def _end(self, fleet: str, why: str, place: Place) -> None:
        try:
            ended = end_fleet(fleet, why, place)
        except LlmhostError as error:
            log.error("a fleet could not be ended", extra={"fleet": fleet, "code": error.code, "why": error.message})
            return
        for one in ended:
            facts = {"node": one.rental.node_id, "instance": one.rental.instance_id, "verified": one.verified}
            log.info("ended", extra={"fleet": fleet, "why": why, **facts})
            if one.error is not None and self._memory.first_time(f"still/{one.rental.label}"):
                self._say(warnings.still_billing_alert(fleet, one.error.message))

    def _tidy(self) -> None:
        if self._market is None:
            return
        try:
            ended = tidy.tidy(self._place(self._market))
        except LlmhostError as error:
            log.warning("what was left could not be set right", extra={"code": error.code, "why": error.message})
            return
        for one in ended:
            log.info("ended", extra={"node": one.rental.node_id, "why": one.rental.why, "verified": one.verified})

    def _say(self, alert: alerts.Alert) -> None:
        thread = alerts.tell(alert, self._settings.alert_command)
        self.told.names()
        if thread is not None:
            self.told.running[f"{time.monotonic()}"] = thread

    # ── waiting ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _pause(self, looks: list[Look], ledger: Ledger) -> float:
        """The usual while; less while something is open, and never past the next moment that matters."""
        hot = bool(self.jobs.names()) or tidy.is_needed(ledger) or self._heard.any_down(_rented_ids(looks))
        pause = min(self._settings.vast_poll_s, self._settings.vast_watch_s) if hot else self._settings.vast_watch_s
        now = _now()
        moments = [budget.next_moment(look.standing, now) for look in looks]
        moments += [moment for look in looks for moment in (look.idle_warns_at, look.idle_ends_at)]
        ahead = [(moment - now).total_seconds() for moment in moments if moment is not None and moment > now]
        return max(LEAST_PAUSE_S, min([pause, *ahead]))

    def _place(self, market: Market) -> Place:
        return Place(market, self._settings, self._paths)


def _period(look: Look) -> str:
    terms = look.standing.terms
    return f"{terms.since}/{terms.lease_ends_at}" if terms else ""


def _rented_ids(looks: list[Look]) -> set[str]:
    return {rental.node_id for look in looks for rental in look.standing.open if rental.state == "ready"}


def _now() -> datetime:
    return datetime.now(UTC)
