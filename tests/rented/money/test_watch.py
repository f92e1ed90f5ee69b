"""The watch as a real child of a real supervisor, against the marketplace."""

from __future__ import annotations

from llmhost.fleet.desired import WATCH
from tests.rented.money.world import PATIENCE_S, stamp
from tests.support.system import wait_until


def test_what_a_dead_up_left_is_ended_and_then_nothing_runs(rented):
    booting = rented.rent("n1", state="rented", phase="booting")
    unknown = rented.rent("n2", state="unknown")
    refused = rented.rent("n3", state="intent")
    assert len(rented.bills()) == 2
    rented.watch()
    assert rented.wait_state(booting.label, "gone").why == "its up was interrupted"
    rented.wait_state(unknown.label, "gone")
    rented.wait_state(refused.label, "refused", "gone")
    assert rented.bills() == []
    wait_until(lambda: not rented.place.children(), f"the supervisor to stop\n{rented.log()}", PATIENCE_S)
    assert rented.server.key not in rented.log()


def test_the_lease_ends_the_fleet(rented):
    rental = rented.rent()
    rented.terms(lease_ends_at=stamp(-1.0))
    rented.watch()
    gone = rented.wait_state(rental.label, "gone")
    assert (gone.why, rented.bills()) == ("the lease ended", [])
    assert gone.spent_usd is not None and gone.spent_usd > 0
    assert rented.wait_said("ended")[0]["why"] == "the lease ended"
    wait_until(lambda: rented.place.child(WATCH)["state"] == "unknown", "the watch to leave", PATIENCE_S)
    with rented.ledger() as ledger:
        assert ledger.nodes() == []
