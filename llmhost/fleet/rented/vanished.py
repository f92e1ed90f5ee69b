"""Why a machine may have gone without us: what its last row and our own terms say. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

from llmhost.core.rentals import Inventory, Rental, Terms
from llmhost.fleet.rented import budget
from llmhost.fleet.rented.inventory_view import ends_at, instances

# A guard looks every so often, and clocks differ.
SLACK = timedelta(minutes=2)
BY_HOST = "ended by its host, whose offer was over"
NO_CREDIT = "ended by the market, because the account's credit was used up"
BY_LEASE = "ended by its own guard at the lease's end"
BY_SILENCE = "ended by its own guard, which had not heard from here for too long"
BY_SOMEBODY = "ended by somebody else, or by its host"
ALL = (BY_HOST, NO_CREDIT, BY_LEASE, BY_SILENCE, BY_SOMEBODY)


def why_gone(rental: Rental, before: Inventory, terms: Terms | None, silent_s: float | None, contact_s: float) -> str:
    """`before` is the last list that may have had it; `silent_s` how long no link to it was up, None = it was until now."""
    row = next((one for one in instances(before) if one.id == rental.instance_id), None)
    now = _when(rental, before)
    host = ends_at(row) if row else None
    if host is not None and now is not None and now >= host - SLACK:
        return BY_HOST
    lease = budget.lease_end(terms)
    if lease is not None and now is not None and now >= lease - SLACK:
        return BY_LEASE
    if silent_s is not None and silent_s >= contact_s:
        return BY_SILENCE
    if before.credit_usd is not None and before.credit_usd <= 0:
        return NO_CREDIT
    return BY_SOMEBODY


def _when(rental: Rental, before: Inventory) -> datetime | None:
    text = rental.ended_at or before.fetched_at
    return None if text is None else datetime.fromisoformat(text)
