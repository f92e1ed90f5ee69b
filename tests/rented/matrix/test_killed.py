"""`up` is killed at every step of its way: what it had rented is known to whoever comes next, and ended."""

from __future__ import annotations

import signal

import pytest

from tests.rented.matrix.house import PATIENT, error_of
from tests.support.system import wait_until

RENTING, LIST = ("PUT", "/asks/"), ("GET", "/api/v1/instances/")
# What `up` has said last when it dies.
PHASES = {
    "boot": "waiting for the machine",
    "ssh": "waiting until it lets us in",
    "install": "unpacking the server",
    "ready": "waiting until every node answers",
    "prove": "asking one real question",
}


@pytest.mark.parametrize("phase", PHASES)
def test_power_is_cut(phase, sandboxed, new_house):
    house = new_house(sandboxed, **PATIENT)
    up = house.begin_up()
    up.until_said(PHASES[phase])
    house.power_cut(up)
    assert len(house.bills()) == 1
    house.assert_nothing_leaks()
    assert house.leftovers() == {"processes": {}, "sockets": [], "locks": []}


@pytest.mark.parametrize("made", [True, False])
def test_power_is_cut_while_it_rents(made, paper, new_house):
    house = new_house(paper, **PATIENT)
    slow = house.control.fault("slow", *RENTING, after=made, seconds=30)
    up = house.begin_up()
    wait_until(lambda: slow.spent, "the create to be sent", 30)
    wait_until(lambda: len(house.bills()) == made, "it to be carried out", 30)
    house.power_cut(up)
    house.assert_nothing_leaks()


def test_power_is_cut_while_two_are_rented(paper, new_house):
    house = new_house(paper, **PATIENT)
    house.control.fault("dropped", *RENTING, skip=1, after=True)
    house.control.fault("slow", *LIST, skip=2, count=3, seconds=1)
    up = house.begin_up("--count", "2")
    wait_until(lambda: len(house.bills()) == 2, "both to be rented", 30)
    house.power_cut(up)
    house.assert_nothing_leaks()


@pytest.mark.parametrize("phase", ["install", "ready"])
def test_only_up_is_killed(phase, sandboxed, new_house):
    """The watch ends what serves nobody, and lets go on what serves."""
    house = new_house(sandboxed, **PATIENT)
    up = house.begin_up()
    up.until_said(PHASES[phase])
    up.kill()
    house.assert_known()
    if phase == "install":
        wait_until(lambda: not house.bills(), "the watch to end it", 30)
    else:
        again = house.up()
        assert again.exit_code == 0, again.stdout
        assert len(house.bills()) == 1
    house.assert_nothing_leaks()


@pytest.mark.parametrize("phase", ["install", "ready"])
def test_ctrl_c(phase, sandboxed, new_house):
    house = new_house(sandboxed, **PATIENT)
    up = house.begin_up()
    up.until_said(PHASES[phase])
    up.send(signal.SIGINT)
    assert up.wait().exit_code == 130
    assert house.bills() == set()
    house.assert_nothing_leaks()


def test_ctrl_c_twice_while_it_rents(paper, new_house):
    house = new_house(paper, **PATIENT)
    slow = house.control.fault("slow", *RENTING, after=True, seconds=2)
    up = house.begin_up()
    wait_until(lambda: slow.spent, "the create to be sent", 30)
    up.send(signal.SIGINT)
    up.until_said("interrupt")
    up.send(signal.SIGINT)
    done = up.wait()
    assert (done.exit_code, error_of(done)) == (130, "interrupted_unsettled"), done.stdout
    house.assert_nothing_leaks()


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_during_down(times, paper, new_house):
    house = new_house(paper, **PATIENT, LLMHOST_VAST_WATCH_S="60")
    up = house.begin_up()
    up.until_said("Pulling fs layer")
    house.power_cut(up)
    house.control.fault("server_error", "DELETE", count=3 if times == 1 else -1)
    down = house.begin("--json", "down", "--yes")
    wait_until(lambda: house.control.requests("destroy"), "it is being ended", 30)
    for _ in range(times):
        down.send(signal.SIGINT)
        down.until_said("interrupt again")
    done = down.wait()
    assert done.exit_code == 130, (done.stdout, done.stderr)
    assert bool(house.bills()) == (times == 2)
    house.assert_known()
    house.control.clear_faults()
    house.assert_ends()


@pytest.mark.parametrize("victim", ["down", "supervisor", "watch"])
def test_killed_during_down(victim, paper, new_house):
    house = new_house(paper, **PATIENT)
    up = house.begin_up()
    up.until_said("Pulling fs layer")
    house.control.fault("server_error", "DELETE", count=6)
    down = house.begin("--json", "down", "--yes")
    wait_until(lambda: house.control.requests("destroy"), "it is being ended", 30)
    if victim == "down":
        down.kill()
    else:
        house.kill(victim)
        down.wait()
    house.assert_nothing_leaks()


def test_two_ups_at_once(sandboxed, new_house):
    house = new_house(sandboxed, **PATIENT)
    ups = [house.begin_up(), house.begin_up()]
    done = [up.wait() for up in ups]
    assert sorted(one.exit_code for one in done) in ([0, 0], [0, 3]), [one.stdout for one in done]
    assert len(house.bills()) == 1
    assert len(house.control.requests("create")) == 1
    house.assert_nothing_leaks()


def test_two_ups_at_once_of_which_one_is_killed(paper, new_house):
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1")
    first = house.begin_up()
    wait_until(house.bills, "something is rented", 30)
    second = house.begin_up()
    second.until_said("waiting for another llmhost command")
    first.kill()
    assert second.wait().exit_code not in (0, 6)
    assert house.bills() == set()
    house.assert_nothing_leaks()


def test_down_during_up(paper, new_house):
    house = new_house(paper, **PATIENT)
    up = house.begin_up("--count", "2")
    wait_until(lambda: len(house.bills()) == 2, "two are rented", 30)
    house.assert_ends()
    assert up.wait().exit_code == 130
    house.assert_nothing_leaks()
