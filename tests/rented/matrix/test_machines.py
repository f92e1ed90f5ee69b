"""Machines that come to nothing: each is ended before `up` says so, and nothing of it bills."""

from __future__ import annotations

import itertools

import pytest

from tests.rented.matrix.house import PATIENT, error_of
from tests.support.system import wait_until


@pytest.mark.parametrize(
    ("scenario", "code"),
    [
        ("never_leaves_loading", "boot_stalled"),
        ("never_starts", "boot_stalled"),
        ("manifest_unknown", "image_missing"),
        ("dead_host", "start_refused"),
        ("oci_fail", "container_failed"),
        ("evict", "evicted"),
    ],
)
def test_one_that_comes_to_nothing_is_ended(scenario, code, paper, new_house):
    paper.control.set(scenario=scenario)
    house = new_house(paper, **{"LLMHOST_VAST_ATTEMPTS": "1", **({} if code == "boot_stalled" else PATIENT)})
    done = house.up()
    assert done.exit_code not in (0, 6), done.stdout
    assert error_of(done) == code
    assert len(paper.control.instances()) == 1
    assert house.bills() == set()
    house.assert_nothing_leaks()


def test_one_after_another(paper, new_house):
    paper.control.plan("dead_host", "oci_fail", "never_starts")
    done = new_house(paper).up()
    assert error_of(done) == "no_machine", done.stdout
    made = paper.control.instances()
    assert [one.alive for one in made] == [False, False, False]
    assert len({one.offer.fields["machine_id"] for one in made}) == 3
    # never two at once
    assert all(one.destroyed_at <= other.created for one, other in itertools.pairwise(made))


@pytest.mark.parametrize(
    ("effect", "code"),
    [("broke", "credit_zero"), ("dearer", "boot_stalled"), ("move", "boot_stalled")],
)
def test_something_happens_while_it_boots(effect, code, paper, new_house):
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1", LLMHOST_VAST_UNPACK_STALL_S="2")
    up = house.begin_up()
    wait_until(house.bills, "something is rented", 30)
    house.control.do(next(iter(house.bills())), effect)
    done = up.wait()
    assert error_of(done) == code, done.stdout
    house.assert_nothing_leaks()


@pytest.mark.parametrize("gone", ["destroyed", "offline"])
def test_it_goes_away_while_it_boots(gone, paper, new_house):
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1", **PATIENT)
    up = house.begin_up()
    wait_until(house.bills, "something is rented", 30)
    up.until_said("Pulling fs layer")
    (number,) = house.bills()
    if gone == "destroyed":
        house.control.destroy(number)
    else:
        house.control.status(number, actual_status="offline")
    done = up.wait()
    assert error_of(done) == {"destroyed": "vanished", "offline": "offline"}[gone], done.stdout
    house.assert_nothing_leaks()


@pytest.mark.parametrize("hurt", ["never_ssh", "deny"])
def test_one_that_lets_nobody_in(hurt, sandboxed, new_house):
    house = new_house(sandboxed, LLMHOST_VAST_ATTEMPTS="1", LLMHOST_VAST_SSH_S="1", **PATIENT)
    if hurt == "never_ssh":
        house.control.plan("never_ssh")
    else:
        house.control.set(key_lag_s=1e9)
    done = house.up()
    assert done.exit_code not in (0, 6), done.stdout
    assert house.bills() == set()
    house.assert_nothing_leaks()


def test_count_2_with_one_that_is_no_good(sandboxed, new_house):
    house = new_house(sandboxed, **PATIENT)
    house.control.plan("dead_host")
    done = house.up("--count", "2")
    assert done.exit_code == 0, done.stdout
    assert len(house.control.instances()) == 3
    assert {int(node["instance_id"]) for node in done.json["data"]["nodes"]} == house.bills()
    house.assert_nothing_leaks()


def test_count_2_with_no_machine_for_the_second(paper, new_house):
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1", **PATIENT)
    house.control.plan("never_leaves_loading", "oci_fail")
    done = house.up("--count", "2")
    assert error_of(done) == "container_failed", done.stdout
    assert [one.alive for one in house.control.instances()] == [False, False]
    house.assert_nothing_leaks()
