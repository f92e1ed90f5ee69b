"""A market that answers wrongly, late or not at all, over a whole `up` whose machine comes to nothing: what bills is known, and ends."""

from __future__ import annotations

import pytest

from tests.rented.matrix.house import LEAK, PATIENT, error_of
from tests.support.marketplace.faults import ALWAYS
from tests.support.system import wait_until

CREATE, LIST, DESTROY = ("PUT", "/asks/"), ("GET", "/api/v1/instances/"), ("DELETE", "/instances/")
STOP = ("PUT", "/instances/")
# What goes wrong, by name: kinds of fault with where and how. `up` fails in each, as its machine stands still.
ENDS_WELL = {
    "the answer is lost": [("dropped", *CREATE, {"after": True})],
    "429 first": [("rate_limited", *CREATE, {})],
    "an error with its id": [("refused_with_contract", *CREATE, {})],
    "success that is none": [("pretend", *CREATE, {})],
    "the label is lost": [("label_lost", *CREATE, {})],
    "no claim in the list, and no answer": [
        ("dropped", *CREATE, {"after": True}),
        ("fields_set", *LIST, {"count": ALWAYS, "extra_env": None}),
    ],
    "the end says 500, then works": [("server_error", *DESTROY, {"count": 2})],
    "the end says 500 and works": [("server_error", *DESTROY, {"after": True})],
    "the end is not answered": [("dropped", *DESTROY, {"after": True})],
    "the end lies once": [("pretend", *DESTROY, {})],
    "the end comes too soon": [("rate_limited", *DESTROY, {"count": 2})],
    "rows come twice": [("duplicated", *LIST, {"count": ALWAYS})],
    "the list is empty once": [("empty_list", *LIST, {"skip": 3})],
    "the list is down for a while": [("server_error", *LIST, {"skip": 2, "count": 5})],
    "the list is half a page": [("truncated", *LIST, {"skip": 2, "count": 3})],
}
# Here something may bill after `up`, which says so.
MAY_BILL = {
    "the end says 500": [("server_error", *DESTROY, {"count": ALWAYS})],
    "the end lies": [("pretend", *DESTROY, {"count": ALWAYS}), ("pretend", *STOP, {"count": ALWAYS})],
    "the end is forbidden": [("auth", *DESTROY, {"status": 1401, "count": ALWAYS})],
    "the list is down": [("server_error", *LIST, {"skip": 2, "count": ALWAYS})],
    "no answer, and no list": [
        ("dropped", *CREATE, {"after": True}),
        ("dropped", *LIST, {"skip": 2, "count": ALWAYS}),
    ],
    "the key is no key any more": [("auth", "", "/instances/", {"skip": 3, "count": ALWAYS})],
}


def faulty(house, faults):
    for kind, method, path, options in faults:
        house.control.fault(kind, method, path, **options)


@pytest.mark.parametrize("name", ENDS_WELL)
def test_nothing_is_left_of_it(name, paper, new_house):
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1")
    faulty(house, ENDS_WELL[name])
    done = house.up()
    assert done.exit_code not in (0, LEAK), done.stdout
    assert house.bills() == set()
    house.assert_nothing_leaks()


@pytest.mark.parametrize("name", MAY_BILL)
def test_it_is_said_and_ended_later(name, paper, new_house):
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1", LLMHOST_VAST_VERIFY_S="1")
    faulty(house, MAY_BILL[name])
    done = house.up()
    assert done.exit_code == LEAK, done.stdout
    blind = "list" in name or "key" in name
    if not blind:
        assert str(*house.bills()) in done.json["errors"][0]["message"]
        house.assert_known()
    house.assert_ends(blind=blind)


@pytest.mark.parametrize("name", ["the end says 500", "no answer, and no list"])
def test_it_is_ended_by_the_watch_alone(name, paper, new_house):
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1", LLMHOST_VAST_VERIFY_S="1")
    faulty(house, MAY_BILL[name])
    assert house.up().exit_code == LEAK
    house.control.clear_faults()
    wait_until(lambda: not house.bills(), f"the watch to end it\n{house.logs()}", 30)
    house.assert_nothing_leaks()
    assert house.processes() == []


def test_a_list_that_lags_behind(paper, new_house):
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1", LLMHOST_VAST_SETTLE_S="1.5")
    house.control.set(list_lag_s=40.0)  # 0.8 s
    house.control.fault("dropped", *CREATE, after=True)
    assert house.up().exit_code not in (0, LEAK)
    assert house.bills() == set()
    house.assert_nothing_leaks()


@pytest.mark.parametrize("fault", ["pages_lost", "rows_lost", "duplicated"])
def test_a_list_of_several_pages(fault, paper, new_house):
    offers = [offer.id for offer in paper.market.offers if offer.rentable][-30:]
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1", **PATIENT)
    house.foreign = {paper.control.rent(offer, "somebody's") for offer in offers}
    up = house.begin_up()
    up.until_said("Pulling fs layer")
    (number,) = house.bills()
    house.power_cut(up)
    # now it is as old as it takes for the market's list to know it
    wait_until(lambda: house.open_rows()[0].instance_id == number, "its row", 10)
    house.control.fault(fault, *LIST, count=ALWAYS)
    for _ in range(3):
        house.assert_known(blind=True)
    assert house.known() == {number}
    house.assert_ends(blind=True)
    assert set(house.billing()) == house.foreign


def test_no_list_no_rental(paper, new_house):
    house = new_house(paper)
    house.control.fault("server_error", *LIST, count=ALWAYS)
    done = house.up()
    assert done.exit_code == 5, done.stdout
    assert house.control.instances() == []


def test_no_machine_is_cheap_enough(paper, new_house):
    house = new_house(paper)
    done = house.up("--max-price", "0.0001")
    assert (done.exit_code, house.control.instances()) == (3, []), done.stdout
    assert error_of(done)
