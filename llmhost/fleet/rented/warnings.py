"""What a fleet's owner must be told now. Each thing once: the steps of the budget by the ledger, everything else by the watch's memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from llmhost.core import durations
from llmhost.core.rentals import Inventory
from llmhost.fleet.rented import budget
from llmhost.fleet.rented.alerts import Alert, Facts
from llmhost.fleet.rented.budget import Standing
from llmhost.fleet.rented.inventory_view import Risen, ends_at, paired
from llmhost.fleet.rented.memory import Memory

# A host that takes its machine back so soon is told of, whatever the lease.
ENDS_SOON = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Look:
    """One fleet at one moment. `idle_since` None = it is not idle; `dry_at` = when the account's credit is used up, None = not known."""

    standing: Standing
    now: datetime
    idle_since: datetime | None = None
    dry_at: datetime | None = None

    @property
    def idle_ends_at(self) -> datetime | None:
        """When it is ended because nobody uses it."""
        terms = self.standing.terms
        if self.idle_since is None or terms is None or terms.idle_s is None:
            return None
        return self.idle_since + timedelta(seconds=terms.idle_s)

    @property
    def idle_warns_at(self) -> datetime | None:
        ends, terms = self.idle_ends_at, self.standing.terms
        if ends is None or terms is None or terms.idle_s is None:
            return None
        return ends - timedelta(seconds=budget.idle_warning_s(terms.idle_s))


def budget_alerts(standing: Standing) -> list[Alert]:
    """For the steps that are reached and were not told."""
    told = standing.terms.alerted if standing.terms else ()
    return [_step(standing, step) for step in budget.reached(standing) if step not in told]


def other_alerts(look: Look, inventory: Inventory, memory: Memory) -> Iterator[Alert]:
    """Lease, idle time, the host's end and the credit; what is told now is remembered as told."""
    known = [*_lease(look), *_idle(look), *_hosts(look, inventory), *_credit(look)]
    yield from (alert for key, alert in known if memory.first_time(key))


def price_alert(risen: Risen) -> Alert:
    rental = risen.rental
    text = f"{rental.node_id} ({rental.gpu}) costs ${risen.now:.3f}/h now, ${risen.before:.3f}/h before."
    facts: Facts = {"node": rental.node_id, "usd_per_hour": risen.now, "before_usd_per_hour": risen.before}
    return Alert("price", rental.fleet, text, facts)


def ended_alert(look: Look, why: str) -> Alert:
    """Said when the end begins."""
    machines = ", ".join(f"{one.node_id} ({one.instance_id or 'number unknown'})" for one in look.standing.open)
    text = f"Fleet {look.standing.fleet} is ended, because {why}: {machines}."
    return Alert("ended", look.standing.fleet, text, {"why": why, **_money(look.standing)})


def still_billing_alert(fleet: str, text: str) -> Alert:
    return Alert("still_billing", fleet, text)


def gone_alert(fleet: str, node_id: str, why: str) -> Alert:
    return Alert("gone", fleet, f"{node_id} is gone: {why}.", {"node": node_id, "why": why})


def _step(standing: Standing, step: int) -> Alert:
    spent, limit = standing.spent_usd, standing.budget_usd or 0.0
    text = f"Fleet {standing.fleet} has spent ${spent:.2f} of its budget of ${limit:.2f} ({step} %)."
    return Alert("budget", standing.fleet, text, {"percent": step, **_money(standing)})


def _lease(look: Look) -> Iterator[tuple[str, Alert]]:
    terms, fleet = look.standing.terms, look.standing.fleet
    warning = budget.lease_warning(terms, look.now)
    if terms is not None and warning is not None:
        text = f"The lease of fleet {fleet} ends at {terms.lease_ends_at}; then it is destroyed. To go on: llmhost extend 2h"
        facts: Facts = {"lease_ends_at": terms.lease_ends_at, **_money(look.standing)}
        yield f"lease/{fleet}/{terms.lease_ends_at}/{warning:.0f}", Alert("lease", fleet, text, facts)


def _idle(look: Look) -> Iterator[tuple[str, Alert]]:
    fleet, ends, warns = look.standing.fleet, look.idle_ends_at, look.idle_warns_at
    terms = look.standing.terms
    if ends is None or warns is None or terms is None or look.now < warns:
        return
    at = ends.isoformat(timespec="seconds")
    text = f"Fleet {fleet} had no request for a while; it is destroyed at {at} unless one comes ({_length(terms.idle_s)} idle)."
    yield f"idle/{fleet}/{at}", Alert("idle", fleet, text, {"ends_at": at, **_money(look.standing)})


def _hosts(look: Look, inventory: Inventory) -> Iterator[tuple[str, Alert]]:
    fleet, lease = look.standing.fleet, budget.lease_end(look.standing.terms)
    for rental, instance in paired(inventory, look.standing.open):
        ends = ends_at(instance)
        if ends is None or ends > max(look.now + ENDS_SOON, lease or look.now):
            continue
        at = ends.isoformat(timespec="seconds")
        text = f"{rental.node_id} ({rental.gpu}) is taken back by its host at {at}."
        yield f"host/{rental.label}/{at}", Alert("host_ends", fleet, text, {"node": rental.node_id, "ends_at": at})


def _credit(look: Look) -> Iterator[tuple[str, Alert]]:
    fleet, lease = look.standing.fleet, budget.lease_end(look.standing.terms)
    if look.dry_at is None or look.dry_at > max(look.now + ENDS_SOON, lease or look.now):
        return
    at = look.dry_at.isoformat(timespec="minutes")
    text = f"The account's credit runs out at about {at}; the market then stops what is rented, and deletes it later."
    since = look.standing.terms.since if look.standing.terms else ""
    yield f"credit/{fleet}/{since}", Alert("credit", fleet, text, {"runs_out_at": at})


def _money(standing: Standing) -> Facts:
    limit = standing.budget_usd
    return {"spent_usd": round(standing.spent_usd, 4), "budget_usd": limit, "usd_per_hour": standing.usd_per_hour}


def _length(seconds: float | None) -> str:
    return durations.words(seconds)
