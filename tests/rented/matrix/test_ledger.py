"""The ledger is locked, cut short, cannot be written, or is gone: what bills is known and ended all the same."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from tests.rented.matrix.house import LEAK, PATIENT, error_of, ledger_of
from tests.support.system import wait_until


@contextlib.contextmanager
def locked(house):
    """Another program has the ledger for itself."""
    connection = sqlite3.connect(ledger_of(house), timeout=30, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_locked_for_a_while_during_up(paper, new_house):
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1", **PATIENT)
    slow = house.control.fault("slow", "PUT", "/asks/", after=True, seconds=1)
    up = house.begin_up()
    wait_until(lambda: slow.spent, "the create", 30)
    with locked(house):
        up.ended.wait(2)
    house.control.status(*house.bills(), actual_status="offline")
    done = up.wait()
    assert done.exit_code not in (0, LEAK), done.stdout
    house.assert_nothing_leaks()


def test_locked_for_long_during_up(paper, new_house):
    """Longer than anybody waits for it (5 s)."""
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1", **PATIENT)
    up = house.begin_up()
    up.until_said("Pulling fs layer")
    house.control.status(*house.bills(), actual_status="offline")
    with locked(house):
        up.ended.wait(8)
    done = up.wait()
    assert done.exit_code != 0, done.stdout
    house.assert_nothing_leaks()


def test_locked_during_down(paper, new_house):
    house = new_house(paper, **PATIENT)
    house.serve_on_paper()
    with locked(house):
        done = house.end()
    assert done.exit_code != 0
    assert house.bills() == set()  # the money comes first
    house.assert_nothing_leaks()


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty"])
def test_damaged(damage, paper, new_house):
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1", LLMHOST_VAST_UNPACK_STALL_S="3")
    number = house.serve_on_paper()
    for file in house.state_dir.glob("ledger.sqlite3-*"):
        file.unlink()
    content = {"truncated": ledger_of(house).read_bytes()[:5000], "garbage": b"no ledger " * 900, "empty": b""}
    ledger_of(house).write_bytes(content[damage])
    up = house.up()
    assert len(house.control.requests("create")) == 1 or up.exit_code != 0
    done = house.end()
    assert done.exit_code == (0 if damage == "empty" else 1), done.stdout
    assert house.bills() == set()
    assert str(number) in {row["instance_id"] for row in done.json["data"]["destroyed"]}


def test_deleted(paper, new_house):
    house = new_house(paper, **PATIENT)
    house.serve_on_paper()
    for file in house.state_dir.glob("ledger.sqlite3*"):
        file.unlink()
    house.assert_nothing_leaks()


def test_deleted_while_up_is_at_work(paper, new_house):
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1", **PATIENT)
    up = house.begin_up()
    up.until_said("Pulling fs layer")
    for file in house.state_dir.glob("ledger.sqlite3*"):
        file.unlink()
    house.control.status(*house.bills(), actual_status="offline")
    up.wait()
    house.assert_nothing_leaks()


@pytest.mark.parametrize("step", ["up", "down"])
def test_a_full_disk(step, paper, new_house):
    """No file may grow any more."""
    house = new_house(paper, LLMHOST_VAST_ATTEMPTS="1", **PATIENT)
    if step == "up":
        done = house.begin("--json", "up", "--backend", "rehearsal", "--yes", largest=0).wait()
        assert done.exit_code not in (0, LEAK)
        assert house.control.requests("create") == []  # nothing is rented that cannot be written down
        return
    house.serve_on_paper()
    done = house.begin("--json", "down", "--yes", largest=0).wait()
    assert house.bills() == set()
    house.assert_nothing_leaks()


@pytest.mark.parametrize("lost", ["installation", "key"])
def test_what_else_may_be_lost(lost, paper, new_house):
    """The file of the installation's id: our own labels have it. The account's key: it is said what bills."""
    house = new_house(paper, **PATIENT)
    house.serve_on_paper()
    if lost == "installation":
        (house.root / "config" / "llmhost" / "installation-id").unlink()
    else:
        house.env["VAST_API_KEY"] = ""
        done = house.end()
        assert (done.exit_code, error_of(done)) == (LEAK, "no_key")
        house.assert_named(done)
        house.env["VAST_API_KEY"] = paper.key
    house.assert_ends()
