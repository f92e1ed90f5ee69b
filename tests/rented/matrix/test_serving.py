"""A fleet that serves, and what becomes of its machines: nothing of it is rented twice, lost sight of, or left behind."""

from __future__ import annotations

import pytest

from tests.rented.matrix.house import PATIENT, error_of
from tests.support.system import wait_until


def states(house):
    return [node["state"] for node in house.run("status").json["data"]["fleet"]["nodes"]]


def is_ready(house):
    wait_until(lambda: states(house) == ["ready"], f"it to serve\n{house.logs()}", 30)


def test_a_machine_through_a_hard_day(sandboxed, new_house):
    """Dearer, without its card, at another address, its supervisor and its watch killed: it is the same machine all day long."""
    house = new_house(sandboxed, **PATIENT)
    assert house.up().exit_code == 0
    (number,) = house.bills()
    for effect in ("dearer", "lose_gpu", "move"):
        house.control.do(number, effect)
        house.assert_known()
    is_ready(house)
    house.kill("watch")
    house.assert_known()
    house.kill("supervisor")
    house.assert_known()
    again = house.up()
    assert again.exit_code == 0, again.stdout
    is_ready(house)
    assert house.bills() == {number}
    assert len(house.control.requests("create")) == 1
    house.assert_ends()
    assert house.leftovers() == {"processes": {}, "sockets": [], "locks": []}


def test_one_vanishes_and_one_has_another_host_key(sandboxed, new_house):
    house = new_house(sandboxed, **PATIENT, LLMHOST_READY_TIMEOUT_S="10")
    assert house.up("--count", "2").exit_code == 0
    first, second = sorted(house.bills())
    house.control.destroy(first)
    house.assert_known()
    house.control.hurt(second, "wrong_host_key")
    house.control.hurt(second, "drop")
    house.control.hurt(second, "ok")
    house.assert_known()
    again = house.up("--count", "2")
    assert again.exit_code in (0, 7), (
        again.stdout
    )  # the one with the other key is no reason to lose the new one, nor to trust it
    house.assert_nothing_leaks()


@pytest.mark.parametrize("key", ["before", "after"])
def test_another_host_key_while_it_boots(key, sandboxed, new_house):
    house = new_house(sandboxed, LLMHOST_VAST_ATTEMPTS="1", LLMHOST_VAST_SSH_S="2", **PATIENT)
    up = house.begin_up()
    up.until_said("waiting until it lets us in" if key == "before" else "looking at the machine")
    (number,) = house.bills()
    house.control.hurt(number, "wrong_host_key")
    house.control.hurt(number, "drop")
    house.control.hurt(number, "ok")
    done = up.wait()
    assert done.exit_code != 6, done.stdout
    assert bool(house.bills()) == (done.exit_code == 0)
    house.assert_nothing_leaks()


ALL_STOPPED = dict.fromkeys(("actual_status", "intended_status", "cur_state", "next_state"), "stopped")


@pytest.mark.parametrize(
    "what",
    [
        "vanishes",
        "renamed",
        "exited",
        "exited and back",
        "offline",
        "stopped",
        "no credit",
        "dearer",
    ],
)
def test_one_that_served(what, paper, new_house):
    house = new_house(paper, **PATIENT)
    number, control = house.serve_on_paper(), house.control
    if what == "vanishes":
        control.destroy(number)
    elif what == "renamed":
        control.rename(number, "something else")
    elif what == "exited":
        control.status(number, actual_status="exited")
    elif what == "exited and back":
        control.status(number, actual_status="exited")
        house.assert_known()
        control.status(number, actual_status="running")
    elif what == "offline":
        control.status(number, actual_status="offline")
    elif what == "stopped":
        control.status(number, **ALL_STOPPED)
    elif what == "no credit":
        control.do(number, "broke")
    elif what == "dearer":
        control.do(number, "dearer")
    house.assert_nothing_leaks()


@pytest.mark.parametrize("what", ["vanishes", "no credit", "unreachable"])
def test_up_again(what, paper, new_house):
    """What is there is not rented again, and what is gone is not counted on."""
    house = new_house(paper, **PATIENT, LLMHOST_READY_TIMEOUT_S="1", LLMHOST_VAST_ATTEMPTS="1")
    number = house.serve_on_paper()
    if what == "vanishes":
        house.control.destroy(number)
        house.assert_known()  # old enough by now for the market's list to know it
        house.env |= {"LLMHOST_VAST_STALL_S": "0.5", "LLMHOST_VAST_UNPACK_STALL_S": "0.5"}
    if what == "no credit":
        house.control.do(number, "broke")
    done = house.up()
    assert done.exit_code not in (0, 6), done.stdout
    assert error_of(done)
    assert len(house.control.requests("create")) == (2 if what == "vanishes" else 1)
    house.assert_nothing_leaks()


def test_the_market_is_down_during_down(sandboxed, new_house):
    house = new_house(sandboxed, **PATIENT, LLMHOST_VAST_VERIFY_S="1")
    assert house.up().exit_code == 0
    sandboxed.pause()
    done = house.end()
    assert done.exit_code == 6, done.stdout
    house.assert_named(done)
    sandboxed.start()
    house.env["LLMHOST_VAST_VERIFY_S"] = "20"
    house.assert_nothing_leaks()


def test_what_no_ledger_knows_is_ended_by_gc(paper, new_house):
    house = new_house(paper, **PATIENT)
    number = house.serve_on_paper()
    for file in house.state_dir.glob("ledger.sqlite3*"):
        file.unlink()
    house.foreign = {paper.control.rent(next(one.id for one in paper.market.offers if one.rentable), "somebody's")}
    house.assert_known()
    house.control.fault("server_error", "DELETE", count=1)
    done = house.run("gc", "--yes")
    assert done.exit_code == 0, done.stdout
    assert [one["instance_id"] for one in done.json["data"]["destroyed"]] == [str(number)]
    assert house.bills() == set()
    house.assert_nothing_leaks()


def test_gc_that_cannot_end_it_says_so(paper, new_house):
    house = new_house(paper, **PATIENT, LLMHOST_VAST_VERIFY_S="1")
    house.serve_on_paper()
    for file in house.state_dir.glob("ledger.sqlite3*"):
        file.unlink()
    house.control.fault("pretend", "DELETE", count=-1)
    house.control.fault("pretend", "PUT", "/instances/", count=-1)
    done = house.run("gc", "--yes")
    assert done.exit_code == 6, done.stdout
    house.assert_known()
    house.assert_ends()
