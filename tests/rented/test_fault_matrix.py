"""Whatever the market does and says: what it bills is what the ledger knows as open, and ending everything ends it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmhost.core.errors import StillBilling
from llmhost.core.rentals import Rental
from llmhost.fleet.rented.ending import end
from llmhost.fleet.rented.not_rented import NotRented
from llmhost.fleet.rented.transaction import rent
from tests.rented.conftest import BRIEF, a_deal, end_everything, known, later, try_rent
from tests.rented.memory_market import PRICE, Answer

# What a create can do and say (vast facts §6.1), by name: the answer, and what must come of it while the list works.
CREATES = {
    "made": (Answer(), Rental),
    "made, no answer": (Answer("unknown"), Rental),
    "not made, no answer": (Answer("unknown", 0), NotRented),
    "made, says 500": (Answer("server"), Rental),
    "not made, says 500": (Answer("server", 0), NotRented),
    "made, says the offer is gone": (Answer("offer_gone"), Rental),
    "not made, says the offer is gone": (Answer("offer_gone", 0), NotRented),
    "made, says invalid": (Answer("invalid_request"), Rental),
    "not made, says invalid": (Answer("invalid_request", 0), NotRented),
    "made, refused with its id": (Answer("invalid_request+id"), NotRented),
    "two made, refused with one id": (Answer("server+id", 2), NotRented),
    "two made, no answer": (Answer("unknown", 2), Rental),
    "three made, says 500": (Answer("server", 3), Rental),
    "made, no credit": (Answer("insufficient_credit"), Rental),
    "not made, no credit": (Answer("insufficient_credit", 0), NotRented),
    "not made, spend limit": (Answer("spend_limit", 0), NotRented),
    "not made, bad key": (Answer("auth", 0), NotRented),
    "not made, no permission": (Answer("permission", 0), NotRented),
    "made, the label lost": (Answer("unknown", labelled=False), Rental),
    "made, the claim lost": (Answer("unknown", claimed=False), Rental),
    "made, both lost, but answered": (Answer("ok", labelled=False, claimed=False), Rental),
    "made, dearer": (Answer("ok", price=PRICE * 1.2), NotRented),
    "made, dearer, no answer": (Answer("unknown", price=PRICE * 1.2), NotRented),
    "made, a rounding dearer": (Answer("ok", price=PRICE * 1.005), Rental),
}
# What the list does meanwhile.
LISTS = {
    "it works": {},
    "it lags": {"lag_s": 0.06},
    "it fails twice": {"lists": ("down", "down")},
    "rows come twice, and not once": {"lists": ("twice", "empty", "twice"), "always_list": "twice"},
}
DESTROYS = {
    "it works": {},
    "it fails twice": {"ends": ("fail", "fail")},
    "it works and fails": {"ends": ("done but fail",)},
    "it lies once": {"ends": ("lie",)},
}


def setup(memory, desk, *scripts):
    for script in scripts:
        for name, value in script.items():
            if isinstance(value, tuple):
                getattr(memory, name).extend(value)
            else:
                setattr(memory, name, value)
    # A machine that says that it is gone and is not must be ended a second time: soon.
    return replace(desk, timing=replace(desk.timing, verify_s=6.0))


def healthy(memory):
    memory.heal()
    return memory.instances()


@pytest.mark.parametrize("listing", LISTS)
@pytest.mark.parametrize("create", CREATES)
def test_nothing_bills_that_the_ledger_does_not_know(memory, desk, create, listing):
    answer, meant = CREATES[create]
    desk = setup(memory, desk, LISTS[listing])
    memory.answers.append(answer)
    outcome = try_rent(a_deal(), desk)
    assert isinstance(outcome, meant), outcome
    assert memory.billing() == known(desk, healthy(memory))
    assert len(memory.billing()) == (meant is Rental)
    end_everything(desk)
    assert memory.billing() == set()


@pytest.mark.parametrize("create", [name for name in CREATES if "label" not in name and "both" not in name])
def test_while_the_list_is_down_nobody_knows_and_the_next_command_finds_out(memory, desk, create):
    answer, _ = CREATES[create]
    desk = replace(desk, timing=BRIEF)
    memory.answers.append(answer)
    memory.always_list = "down"
    outcome = try_rent(a_deal(), desk)
    if not isinstance(outcome, Rental):
        assert isinstance(outcome, StillBilling)
        assert outcome.exit_code == 6
    assert memory.calls.count("rent") == 1, "no other offer may be tried"
    assert memory.billing() <= known(desk, healthy(memory))
    end_everything(desk)
    assert memory.billing() == set()


@pytest.mark.parametrize("ending", DESTROYS)
@pytest.mark.parametrize("listing", LISTS)
@pytest.mark.parametrize("machines", [1, 3])
def test_an_end_is_repeated_until_the_market_lists_it_no_more(memory, desk, ending, listing, machines):
    rentals = [rent(a_deal(number), desk) for number in range(1, machines + 1)]
    desk = setup(memory, desk, LISTS[listing], DESTROYS[ending])
    if ending == "it lies once":
        desk = replace(desk, timing=replace(desk.timing, verify_s=1.5))
    ended = end(rentals, desk, "asked")
    assert [(each.verified, each.error) for each in ended] == [(True, None)] * machines
    assert {each.rental.state for each in ended} == {"gone"}
    assert memory.billing() == set()


def test_a_destroy_that_lies_is_told_and_stays_in_the_ledger(memory, desk):
    rental = rent(a_deal(), desk)
    memory.always_end = "lie"
    ended = end([rental], replace(desk, timing=BRIEF), "asked")[0]
    assert (ended.verified, ended.rental.state) == (False, "destroying")
    assert isinstance(ended.error, StillBilling)
    assert str(rental.instance_id) in ended.error.message
    assert "stop" in memory.calls
    assert memory.billing() == known(desk, healthy(memory)) == {rental.instance_id}
    end_everything(desk)
    assert memory.billing() == set()


def test_what_is_only_destroyed_once_it_was_stopped_is_gone_in_the_end(memory, desk):
    rental = rent(a_deal(), desk)
    memory.always_end, memory.stop_ends = "lie", True
    ended = end([rental], replace(desk, timing=replace(desk.timing, verify_s=1.5)), "asked")[0]
    assert (ended.verified, ended.rental.state) == (True, "gone")
    assert memory.billing() == set()


def test_the_list_down_throughout_an_end_is_not_taken_for_its_success(memory, desk):
    rental = rent(a_deal(), desk)
    memory.always_list = "down"
    ended = end([rental], replace(desk, timing=BRIEF), "asked")[0]
    assert (ended.verified, ended.rental.state) == (False, "destroying")
    assert isinstance(ended.error, StillBilling)
    memory.heal()
    end_everything(desk)
    assert memory.billing() == set()


@pytest.mark.parametrize("ending", ["lie", "fail"])
@pytest.mark.parametrize("lists", [("empty",), ("", "empty"), ("down", "empty"), ("empty", "", "empty")])
def test_a_page_that_was_lost_is_no_end(memory, desk, ending, lists):
    rental = rent(a_deal(), desk)
    memory.ends.append(ending)
    memory.lists.extend(lists)
    desk = later(replace(desk, timing=replace(desk.timing, verify_s=1.5)), 3600)
    assert end([rental], desk, "asked")[0].verified
    assert memory.billing() == set()


def test_a_machine_that_is_not_listed_yet_is_not_gone(memory, desk):
    rental = rent(a_deal(), desk)
    memory.ends.append("lie")
    memory.lists.extend(["empty"] * 4)
    desk = replace(desk, timing=replace(desk.timing, settle_s=1.0, verify_s=3.0))
    assert end([rental], desk, "asked")[0].verified
    assert memory.billing() == set()
