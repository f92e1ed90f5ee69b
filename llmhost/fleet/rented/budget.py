"""What a fleet has cost, and what follows for its budget, its lease and its credit. Pure.

Prices USD, times as `datetime` with a zone or RFC 3339.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from llmhost.core.rentals import Rental, Terms
from llmhost.fleet.rented import bill

# Told once each when so much of the budget is spent; at the last one the fleet is ended.
STEPS = (50, 80, 100)
SPENT = 100
# How long before the lease's end it is told.
LEASE_WARNINGS_S = (900.0, 300.0)
# An idle fleet is told of its end so long before, or when a fifth of the idle time is left, whichever is less.
IDLE_WARNING_S = 300.0
IDLE_WARNING_PART = 0.2


@dataclass(frozen=True, slots=True)
class Standing:
    """A fleet's money now. `rentals` are those that its budget is for: all that were rented since its terms were set, and all open ones."""

    fleet: str
    terms: Terms | None
    rentals: tuple[Rental, ...]
    spent_usd: float
    usd_per_hour: float

    @property
    def open(self) -> list[Rental]:
        return [rental for rental in self.rentals if rental.is_open]

    @property
    def budget_usd(self) -> float | None:
        return self.terms.budget_usd if self.terms else None

    @property
    def percent(self) -> float | None:
        """Of the budget; None without one."""
        return None if not self.budget_usd else 100.0 * self.spent_usd / self.budget_usd


def standing(fleet: str, terms: Terms | None, rentals: Iterable[Rental], now: datetime) -> Standing:
    """`rentals` may be all that the ledger has."""
    ours = tuple(one for one in rentals if one.fleet == fleet and counts(one, terms))
    return Standing(fleet, terms, ours, bill.total(ours, now), bill.hourly(ours))


def counts(rental: Rental, terms: Terms | None) -> bool:
    """Whether a rental belongs to what is up now: it may bill, or was rented under the present terms."""
    if rental.is_open:
        return True
    return terms is not None and bill.moment(rental.created_at) >= bill.moment(terms.since)


def reached(standing: Standing) -> tuple[int, ...]:
    """The steps of the budget that are behind us."""
    percent = standing.percent
    return () if percent is None else tuple(step for step in STEPS if percent >= step)


def lease_end(terms: Terms | None) -> datetime | None:
    return bill.moment(terms.lease_ends_at) if terms and terms.lease_ends_at else None


def is_over(standing: Standing, now: datetime) -> str | None:
    """Why a fleet must be ended now, in words for the bill; None = it may go on."""
    ends = lease_end(standing.terms)
    if ends is not None and now >= ends:
        return "the lease ended"
    if SPENT in reached(standing):
        return f"the budget of ${standing.budget_usd:.2f} is spent"
    return None


def lease_warning(terms: Terms | None, now: datetime) -> float | None:
    """The warning that is due: seconds before the end, the shortest that holds; None = none yet."""
    ends = lease_end(terms)
    if ends is None or now >= ends:
        return None
    left = (ends - now).total_seconds()
    return min((warning for warning in LEASE_WARNINGS_S if left <= warning), default=None)


def idle_warning_s(idle_s: float) -> float:
    """How long before its end an idle fleet is told."""
    return min(IDLE_WARNING_S, IDLE_WARNING_PART * idle_s)


def next_moment(standing: Standing, now: datetime) -> datetime | None:
    """When something of lease or budget is due next, so that nobody sleeps past it."""
    ends, moments = lease_end(standing.terms), []
    if ends is not None:
        moments = [ends, *(ends - timedelta(seconds=warning) for warning in LEASE_WARNINGS_S)]
    if standing.budget_usd and standing.usd_per_hour > 0:
        left = [standing.budget_usd * step / 100 - standing.spent_usd for step in STEPS]
        moments += [now + timedelta(hours=usd / standing.usd_per_hour) for usd in left if 0 < usd < 1e6]
    return min((moment for moment in moments if moment > now), default=None)


def runs_dry_at(standings: Iterable[Standing], credit_usd: float | None, now: datetime) -> datetime | None:
    """When the account's credit is used up at the present prices; None = not known, or nothing bills."""
    usd_per_hour = sum(one.usd_per_hour for one in standings)
    if credit_usd is None or usd_per_hour <= 0:
        return None
    return now + timedelta(hours=min(max(credit_usd, 0.0) / usd_per_hour, 1e6))
