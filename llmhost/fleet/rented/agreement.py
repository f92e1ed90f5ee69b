"""The terms under which a plan is carried out: written down before anything is rented under them, and taken back when it fails."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger
from llmhost.core.rentals import Terms
from llmhost.fleet.rented.plan import RentedPlan
from llmhost.fleet.rented.wishes import begun_now, changes_of_money, going_on


def agree(ledger: Ledger, plan: RentedPlan) -> tuple[Terms, list[str]]:
    """What holds of lease, budget and idle time from now on, and sentences about what is another than before.

    The plan may be a while old: a lease that `extend` moved since, and what was told of the budget, hold. Raises what the ledger raises.
    """
    rentals = ledger.rentals
    with ledger.transaction():
        there = rentals.terms(plan.fleet) if rentals.all(plan.fleet, open_only=True) else None
        terms = plan.terms if there is None else going_on(plan.terms, there)
        if plan.seats and not plan.kept:
            terms = begun_now(terms, plan.wish, time.time(), anew=there is None)
        elif there is not None:
            terms = replace(terms, lease_ends_at=there.lease_ends_at)
        rentals.put_terms(terms)
    return terms, changes_of_money(there, terms)


def take_back(ledger: Ledger, plan: RentedPlan, before: Terms | None) -> None:
    """Terms as they were, for what is rented still: a wish that failed is not the next one's, too. Where nothing is, there are none."""
    with contextlib.suppress(LlmhostError):  # the failure that brought us here says more
        rentals, fleet = ledger.rentals, plan.fleet
        now = rentals.terms(fleet)
        if not rentals.all(fleet, open_only=True):
            rentals.forget_terms(fleet)
        elif before is not None:
            ends = now.lease_ends_at if now and plan.kept else before.lease_ends_at
            rentals.put_terms(replace(before, lease_ends_at=ends))
