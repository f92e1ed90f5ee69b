"""A lease that is moved while somebody thinks about a plan, and what is told while it waits."""

from __future__ import annotations

from dataclasses import replace

from llmhost.core.progress import SilentProgress
from llmhost.fleet.plan import UpRequest
from llmhost.fleet.rented.prepare import prepare
from tests.rented.money.world import stamp


def test_an_extend_while_the_prompt_is_open_is_not_taken_back(rented):
    rented.rent()
    wish = {"backend": "rehearsal", "model": None, "gpu": None, "lease_s": 3600.0}
    rented.terms(lease_ends_at=stamp(-600.0), budget_usd=3.0, wish=wish)
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
