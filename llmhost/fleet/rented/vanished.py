"""Why a machine may have gone without us: what its last row and our own terms say. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from llmhost.core.rentals import Rental, Terms
from llmhost.fleet.rented import bill, budget
from llmhost.fleet.rented.inventory_view import ends_at
from llmhost.providers.market import Instance

# A guard looks every so often, and clocks differ.
SLACK = timedelta(minutes=2)
BY_HOST = "ended by its host, whose offer was over"
NO_CREDIT = "ended by the market, because the account's credit was used up"
BY_LEASE = "ended by its own guard at the lease's end"
BY_IDLE = "ended by its own guard, because nobody had used it"
BY_SILENCE = "ended by its own guard, which had not heard from here for too long"
BY_SOMEBODY = "ended by somebody else, or by its host"
ALL = (BY_HOST, NO_CREDIT, BY_LEASE, BY_IDLE, BY_SILENCE, BY_SOMEBODY)


def why_gone(
    rental: Rental,
    row: Instance | None,
    terms: Terms | None,
    credit: float | None,
    silent_s: float | None,
    contact_s: float,
    idle_since: datetime | None = None,
) -> str:
    """`row` is the last that was seen of it; `silent_s` for how long no link to it was up, None = it was until now, or nobody knows.

    `idle_since` None = its fleet was in use.
    """
    at = bill.moment(rental.ended_at) if rental.ended_at else None
    host, lease = ends_at(row) if row else None, budget.lease_end(terms)
    if at is not None and host is not None and at >= host - SLACK:
        return BY_HOST
    if at is not None and lease is not None and at >= lease - SLACK:
        return BY_LEASE
    idle_s = terms.idle_s if terms else None
    if at is not None and idle_s is not None and _seconds(idle_since, at) >= (idle_s or 0.0):
        return BY_IDLE
    if silent_s is not None and silent_s >= contact_s:
        return BY_SILENCE
    if credit is not None and credit <= 0:
        return NO_CREDIT
    return BY_SOMEBODY


def _seconds(since: datetime | None, until: datetime) -> float:
    return 0.0 if since is None else (until - since).total_seconds()
