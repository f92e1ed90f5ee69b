"""One round of the watch after another: look at market, gateway and clock; tell what must be told, end what is over, set right what is not.

The telling is done here and never waits long. What takes time (the market's answer, draining, verified ends) is done in threads, so that
the end of one lease waits neither for a slow market nor for the end of another.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmhost.core.ledger import Ledger
from llmhost.core.paths import Paths
from llmhost.fleet.desired import VAST, serving
from llmhost.fleet.rented import alerts, budget, idle, in_use, memory, tidy, warnings
from llmhost.fleet.rented.ending import Ended
from llmhost.fleet.rented.enforce import Home, Place, end_fleet, forget_nodes, logged
from llmhost.fleet.rented.market_look import MarketLook
from llmhost.fleet.rented.surroundings import Heard, hear
from llmhost.fleet.rented.warnings import Look
from llmhost.fleet.turn import is_taken
from llmhost.providers.market import Market

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

log = logging.getLogger("llmhost.watch")
LEAST_PAUSE_S = 0.05
# A market that answers does so within this; what one that is slow says is heard in the next round.
LOOK_S = 2.0
# Machines end themselves when they are idle: what uses the fleet without them must be seen, and told to them, well before.
IDLE_PART = 0.25


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
        self._look = MarketLook(settings, paths, open_market)
        self._memory = memory.load(paths)
        self._heard = Heard()
        self._looking = Jobs()
        self._telling = Jobs()
        self.jobs = Jobs()
        self.told = Jobs()

    def once(self) -> float | None:
        """One round; seconds until the next, None when nothing is rented any more. Raises LlmhostError for a ledger that cannot be used."""
        with Ledger.open(self._paths.ledger_file) as ledger:
            if self._is_done(ledger):
                return None
            self._looking.start("look", self._look_at_market)
            self._looking.wait(LOOK_S)
            self._heard = hear(self._paths)
            for alert in self._look.news(ledger, self._heard):
                self._say(alert)
            looks = self._looks(ledger)
            for look in looks:
                self._tell(look, ledger)
            over = [look for look in looks if self._end_if_over(look)]
            if not over:
                self._tidy_if_needed(ledger)
            memory.keep(self._memory, self._paths)
            return self._pause(looks, ledger)

    def _is_done(self, ledger: Ledger) -> bool:
        if self.jobs.names() or is_taken(self._paths) or ledger.rentals.all(open_only=True):
            return False
        # the market is not asked for it: that nothing is rented any more is in the ledger already
        forget_nodes(Home(self._settings, self._paths), ledger)
        return True

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _look_at_market(self) -> None:
        with logged("the market's answer could not be kept"):
            self._look.look()

    def _looks(self, ledger: Ledger) -> list[Look]:
        """Every fleet that has something rented."""
        now, rentals = _now(), ledger.rentals.all()
        fleets = sorted({rental.fleet for rental in rentals if rental.is_open})
        standings = [budget.standing(name, ledger.rentals.terms(name), rentals, now) for name in fleets]
        dry_at = budget.runs_dry_at(standings, ledger.rentals.inventory().credit_usd, now)
        self._memory.forget(set(fleets))
        return [Look(one, now, self._idle_since(one, now, ledger), dry_at) for one in standings]

    def _idle_since(self, standing: budget.Standing, now: datetime, ledger: Ledger) -> datetime | None:
        fleet = standing.fleet
        before = self._memory.activity.get(fleet, idle.Activity())
        self._memory.activity[fleet] = activity = self._activity(standing, before, now)
        if activity.at != before.at:
            nodes = [node for node in serving(ledger.nodes(fleet)) if node.provider == VAST]
            self._telling.start(fleet, lambda: in_use.tell(nodes, self._paths))
        since = idle.idle_since(activity, standing.open)
        self._memory.idle_since.pop(fleet, None)
        if since is not None:
            self._memory.idle_since[fleet] = since.isoformat(timespec="seconds")
        return since

    def _activity(self, standing: budget.Standing, before: idle.Activity, now: datetime) -> idle.Activity:
        ids = {rental.node_id for rental in standing.open}
        seen = idle.looked(before, self._heard.nodes, ids, now, self._heard.requests)
        # an `up` that adds a machine, for whose download the others wait; what we do ourselves is no use
        at_work = is_taken(self._paths) and not self.jobs.names()
        marked = in_use.marked_at(self._paths)
        moments = [now] if at_work else [min(marked, now)] if marked else []
        return idle.used(seen, moments)

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
        """Whether the fleet's time or money is over."""
        why, fleet = self._why_over(look), look.standing.fleet
        if why is None or f"end {fleet}" in self.jobs.names():
            return why is not None
        if self._memory.first_time(f"ended/{fleet}/{why}/{_period(look)}"):
            self._say(warnings.ended_alert(look, why))
        place = self._look.place
        if place is not None:
            self.jobs.start(f"end {fleet}", lambda: self._end(fleet, why, place))
        return True

    def _why_over(self, look: Look) -> str | None:
        """An idle one is left alone while somebody is at work."""
        why = budget.is_over(look.standing, look.now)
        if why is None and look.idle_ends_at is not None and look.now >= look.idle_ends_at:
            why = None if is_taken(self._paths) else "nobody has used it"
        return why

    def _is_over_still(self, fleet: str, ledger: Ledger) -> bool:
        """Asked anew, once nothing is under way any more."""
        now, before = _now(), self._memory.activity.get(fleet, idle.Activity())
        standing = budget.standing(fleet, ledger.rentals.terms(fleet), ledger.rentals.all(), now)
        heard = hear(self._paths)
        ids = {rental.node_id for rental in standing.open}
        activity = idle.looked(before, heard.nodes, ids, now, heard.requests)
        over = self._why_over(Look(standing, now, idle.idle_since(activity, standing.open)))
        if over is None:
            log.info("it goes on after all", extra={"fleet": fleet})
        return over is not None

    def _end(self, fleet: str, why: str, place: Place) -> None:
        ended: list[Ended] = []
        with logged(f"fleet {fleet} could not be ended"):
            ended = end_fleet(fleet, why, place, lambda ledger: self._is_over_still(fleet, ledger))
        for one in ended:
            facts = {"node": one.rental.node_id, "instance": one.rental.instance_id, "verified": one.verified}
            log.info("ended", extra={"fleet": fleet, "why": why, **facts})
            if one.error is not None and self._memory.first_time(f"still/{one.rental.label}"):
                self._say(warnings.still_billing_alert(fleet, one.error.message))

    def _tidy_if_needed(self, ledger: Ledger) -> None:
        place = self._look.place
        if place is not None and not is_taken(self._paths) and not self.jobs.names() and tidy.is_needed(ledger):
            self.jobs.start("tidy", lambda: self._tidy(place))

    def _tidy(self, place: Place) -> None:
        with logged("what was left could not be set right"):
            for one in tidy.tidy(place):
                facts = {"node": one.rental.node_id, "why": one.rental.why, "verified": one.verified}
                log.info("ended", extra=facts)

    def _say(self, alert: alerts.Alert) -> None:
        thread = alerts.tell(alert, self._settings.alert_command)
        self.told.names()
        if thread is not None:
            self.told.running[f"{time.monotonic()}"] = thread

    # ── waiting ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _pause(self, looks: list[Look], ledger: Ledger) -> float:
        """The usual while; less while something is open or idle times are short, and never past the next moment that matters."""
        hot = bool(self.jobs.names()) or tidy.is_needed(ledger) or self._heard.any_down(_rented_ids(looks))
        pause = min(self._settings.vast_poll_s, self._settings.vast_watch_s) if hot else self._settings.vast_watch_s
        idle_s = [look.standing.terms.idle_s for look in looks if look.standing.terms and look.standing.terms.idle_s]
        pause = min([pause, *(max(IDLE_PART * one, self._settings.vast_poll_s) for one in idle_s)])
        now = _now()
        moments = [budget.next_moment(look.standing, now) for look in looks]
        moments += [moment for look in looks for moment in (look.idle_warns_at, look.idle_ends_at)]
        ahead = [(moment - now).total_seconds() for moment in moments if moment is not None and moment > now]
        return max(LEAST_PAUSE_S, min([pause, *ahead]))


def _period(look: Look) -> str:
    terms = look.standing.terms
    return f"{terms.since}/{terms.lease_ends_at}" if terms else ""


def _rented_ids(looks: list[Look]) -> set[str]:
    return {rental.node_id for look in looks for rental in look.standing.open if rental.state == "ready"}


def _now() -> datetime:
    return datetime.now(UTC)
