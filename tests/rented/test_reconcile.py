"""Reconciling: what is ours and forgotten is found, what is others' is left alone, and what is only late is not given up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmhost.core.errors import AuthenticationNeeded, Unavailable
from llmhost.core.rentals import Rental
from llmhost.fleet.rented.ending import end, end_orphan
from llmhost.fleet.rented.ownership import new_label
from llmhost.fleet.rented.reconcile import reconcile
from llmhost.fleet.rented.transaction import rent
from llmhost.providers.market import Instance
from tests.rented.conftest import BRIEF, a_deal, end_everything, later, try_rent
from tests.rented.memory_market import Answer


def attempt(desk, state="intent", uuid="a1b2c3d4e5f6", **fields):
    """What a process that died left behind."""
    label = new_label(desk.installation, "default", uuid, 1)
    row = Rental(label, "default", "n1", state, desk.stamp(), 1, 2, 3, "RTX 4090", 0.36, **fields)
    desk.ledger.rentals.add(row)
    return row


def test_the_inventory_is_kept_with_its_time(desk, memory):
    rental = rent(a_deal(), desk)
    other = memory.foreign("somebody's")
    found = reconcile(desk)
    kept = desk.ledger.rentals.inventory()
    assert {Instance.from_dict(row).id for row in kept.instances} == {rental.instance_id, other}
    assert (kept.trouble, kept.fetched_at is not None) == (None, True)
    assert [each.id for each in found.others] == [other]
    assert (found.orphans, found.unfinished) == ([], [rental])


@pytest.mark.parametrize(("how", "error"), [("down", Unavailable), ("auth", AuthenticationNeeded)])
def test_without_an_answer_the_last_inventory_stays_and_the_trouble_is_told(desk, memory, how, error):
    rent(a_deal(), desk)
    reconcile(desk)
    before = desk.ledger.rentals.inventory()
    memory.lists.append(how)
    with pytest.raises(error):
        reconcile(desk)
    after = desk.ledger.rentals.inventory()
    assert (after.fetched_at, after.instances) == (before.fetched_at, before.instances)
    assert after.trouble
    reconcile(desk)
    assert desk.ledger.rentals.inventory().trouble is None


@pytest.mark.parametrize("state", ["intent", "unknown"])
@pytest.mark.parametrize("made", [0, 1, 2])
def test_an_attempt_that_was_cut_off_is_settled(desk, memory, state, made):
    row = attempt(desk, state)
    numbers = [memory.foreign(None, row.label) for _ in range(made)]
    found = reconcile(desk)
    kept = desk.ledger.rentals.get(row.label)
    assert (kept.state, kept.instance_id) == (("rented", numbers[0]) if made else ("refused", None))
    assert found.unfinished == ([kept] if made else [])
    assert (found.orphans, found.unsettled, memory.billing()) == ([], [], set(numbers[:1]))


def test_an_end_that_was_cut_off_is_gone_on_with(desk, memory):
    number = memory.foreign("renamed")
    row = attempt(desk, "destroying", instance_id=number, rented_at=desk.stamp(), why="asked")
    found = reconcile(desk)
    kept = desk.ledger.rentals.get(row.label)
    assert (kept.state, kept.why, memory.billing(), found.unsettled) == ("gone", "asked", set(), [])


def test_what_another_process_is_at_work_on_is_left_to_it(desk, memory):
    young = attempt(desk, "intent")
    number = memory.foreign(young.label)
    ending = memory.foreign("x")
    attempt(desk, "destroying", "b" * 12, instance_id=ending, rented_at=desk.stamp())
    second = memory.foreign(young.label)
    found = reconcile(desk, at_work=True)
    assert desk.ledger.rentals.get(young.label).state == "intent"
    assert (found.orphans, found.unfinished, found.others) == ([], [], [])
    assert memory.billing() == {number, ending, second}
    old = later(desk, desk.timing.fresh_s + 1)
    reconcile(old, at_work=True)
    assert desk.ledger.rentals.get(young.label).state == "rented"


def test_what_vanished_is_gone_and_billed_until_then(desk, memory):
    rental = rent(a_deal(), desk)
    memory.vanish(rental.instance_id)
    found = reconcile(later(desk, 3600))
    assert [each.label for each in found.vanished] == [rental.label]
    row = desk.ledger.rentals.get(rental.label)
    assert (row.state, row.spent_usd) == ("gone", pytest.approx(0.36, abs=0.01))


def test_a_lost_page_and_a_lagging_list_make_nothing_vanish(desk, memory):
    rental = rent(a_deal(), desk)
    memory.always_list = "empty"
    assert reconcile(replace(desk, timing=replace(desk.timing, settle_s=60))).vanished == [], "it is too fresh"
    memory.always_list = ""
    memory.lists.append("empty")
    assert reconcile(later(desk, 3600)).vanished == [], "one answer is not enough"
    memory.lists.extend(["empty", "down"])
    assert reconcile(later(desk, 3600)).vanished == [], "no answer is none"
    assert desk.ledger.rentals.get(rental.label).state == "rented"


def test_a_forgotten_machine_is_an_orphan_until_it_is_ended_and_then_on_the_bill(desk, memory):
    label = new_label(desk.installation, "lost", "c" * 12, 1)
    number = memory.foreign(label)
    others = [memory.foreign(new_label("f" * 32, "lost", "c" * 12, 1)), memory.foreign(None)]
    found = reconcile(desk)
    assert [(each.instance.id, each.label.fleet) for each in found.orphans] == [(number, "lost")]
    assert [each.id for each in found.others] == others
    ended = end_orphan(found.orphans[0].instance, desk)
    assert (ended.verified, ended.rental.state, ended.rental.fleet) == (True, "gone", "lost")
    assert ended.rental.price_usd_per_hour == 1.0
    assert memory.billing() == set(others)


def test_an_orphan_is_in_the_ledger_before_it_is_destroyed(desk, memory):
    memory.foreign(None, new_label(desk.installation, "lost", "c" * 12, 1))
    orphan = reconcile(desk).orphans[0]
    memory.always_end = "fail"
    ended = end_orphan(orphan.instance, replace(desk, timing=BRIEF))
    assert (ended.verified, ended.error.exit_code) == (False, 6)
    memory.heal()
    found = reconcile(desk)
    assert (found.orphans, found.unsettled, memory.billing()) == ([], [], set())


@pytest.mark.parametrize("times", [1, 3])
def test_what_was_verified_gone_and_is_there_again_is_an_orphan(desk, memory, times):
    rental = rent(a_deal(), desk)
    end([rental], desk, "asked")
    for _ in range(times):
        memory.revive(rental.instance_id)
        memory.change(rental.instance_id, label=None, claim=None)
        found = reconcile(desk)
        assert [each.instance.id for each in found.orphans] == [rental.instance_id]
        assert end_orphan(found.orphans[0].instance, desk).verified
        assert memory.billing() == set()
    assert len(desk.ledger.rentals.all()) == times + 1


def test_what_was_refused_and_turns_up_late_is_an_orphan(desk, memory):
    memory.lag_s = 0.5
    memory.answers.append(Answer("unknown"))
    assert try_rent(a_deal(), desk).next_offer
    memory.lag_s = 0.0
    number = next(iter(memory.billing()))
    while number not in {each.id for each in memory.instances()}:
        pass
    found = reconcile(desk)
    assert [each.instance.id for each in found.orphans] == [number]
    end_everything(desk)
    assert memory.billing() == set()


def test_a_renamed_machine_is_known_by_its_id(desk, memory):
    rental = rent(a_deal(), desk)
    memory.change(rental.instance_id, label="mine now", claim=None)
    found = reconcile(later(desk, 3600))
    assert (found.orphans, found.others, found.vanished) == ([], [], [])
    assert end([rental], desk, "asked")[0].verified
    assert memory.billing() == set()


def test_several_ends_share_one_series_of_lists(desk, memory):
    rentals = [rent(a_deal(number), desk) for number in range(1, 6)]
    memory.calls.clear()
    assert all(each.verified for each in end(rentals, later(desk, 60), "asked"))
    assert memory.calls.count("list") <= 4
    assert memory.calls.count("destroy") == 5


def test_what_is_over_needs_no_call(desk, memory):
    rental = rent(a_deal(), desk)
    gone = end([rental], desk, "asked")[0].rental
    memory.calls.clear()
    assert [each.verified for each in end([gone], desk, "again")] == [True]
    assert (memory.calls, end([], desk, "nothing")) == ([], [])
    assert end([rental], desk, "again, not knowing it")[0].rental.spent_usd == gone.spent_usd
