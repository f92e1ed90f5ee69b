"""A lease that is moved while somebody thinks about a plan, and what is told while it waits."""

from __future__ import annotations

from dataclasses import replace

from llmhost.core.progress import SilentProgress
from llmhost.core.rentals import Terms
from llmhost.fleet.plan import UpRequest
from llmhost.fleet.rented.prepare import prepare
from llmhost.fleet.rented.request import RentWish
from llmhost.fleet.rented.wishes import begun_now, going_on
from tests.rented.money.world import stamp


def test_an_extend_while_the_prompt_is_open_is_not_taken_back(rented):
    rented.rent()
    wish = RentWish(gpu=None, backend="rehearsal", model=None, budget=3.0, lease_s=3600.0)
    rented.terms(lease_ends_at=stamp(-600.0), budget_usd=3.0, wish=wish.as_dict())
    rented.flags |= {"provider": "vast", "backend": "rehearsal"}
    request = UpRequest("vast", None, "rehearsal", None, None, None, tunnel=False)
    job = prepare(request, rented.settings, rented.paths, SilentProgress())
    with rented.ledger() as ledger:
        terms = ledger.rentals.terms("default")
        later = stamp(-90_000.0)
        ledger.rentals.put_terms(replace(terms, lease_ends_at=later, alerted=(50,)))
    job.carry_out(SilentProgress())
    with rented.ledger() as ledger:
        kept = ledger.rentals.terms("default")
    assert (kept.lease_ends_at, kept.alerted, kept.budget_usd) == (later, (50,), 3.0)


def test_machines_that_take_others_places_go_on_under_the_same_budget():
    there = Terms("default", budget_usd=2.0, alerted=(50,), since=stamp(7200.0), wish={"budget": 2.0})
    wish = RentWish(gpu="H100", budget=2.0, lease_s=3600.0)
    kept = begun_now(going_on(Terms("default", budget_usd=2.0), there), wish, 0.0, anew=False)
    assert (kept.since, kept.alerted, kept.lease_ends_at) == (there.since, (50,), "1970-01-01T01:00:00+00:00")
    raised = going_on(Terms("default", budget_usd=5.0), there)
    assert (raised.since, raised.alerted) == (there.since, ())
    assert begun_now(raised, wish, 0.0).since == "1970-01-01T00:00:00+00:00"  # nothing of it is rented any more
