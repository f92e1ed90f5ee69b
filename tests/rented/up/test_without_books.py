"""What bills is seen and ended although the ledger is lost, damaged or cannot be written."""

from __future__ import annotations

import shutil

import pytest

from llmhost.core.ledger import Ledger
from tests.rented.up.test_up_interrupted import begin, power_cut
from tests.support import frozen
from tests.support.claude import run


def lose(stack) -> None:
    for file in stack.state_dir.glob("ledger.sqlite3*"):
        file.unlink()


def damage(stack, how: str) -> None:
    file = stack.state_dir / "ledger.sqlite3"
    Ledger.open(file).close()  # nothing is left in the -wal file
    file.write_bytes(file.read_bytes()[:5000] if how == "cut" else b"no ledger at all " * 500)


def frozen_run(stack, *args: str):
    """A command for which the state folder is read-only."""
    argv = frozen.frozen(stack.state_dir, stack.argv("--json", *args))
    return run(argv, stack.env, stack.work, "", 60)


@pytest.mark.parametrize("closed", [False, True])
def test_a_read_only_state_folder_keeps_nothing_from_being_seen_and_ended(closed, paper, new_stack):
    stack = new_stack(paper)
    number = power_cut(stack, begin(stack))
    if closed:
        Ledger.open(stack.state_dir / "ledger.sqlite3").close()
    if not frozen.machine_allows(stack.state_dir):
        shutil.rmtree(stack.state_dir)
        stack.state_dir.write_text("no folder at all")
        done = stack.llmhost("--json", "down").expect(1)
    else:
        seen = frozen_run(stack, "status").expect(0).json["data"]
        assert [node["instance_id"] for node in seen["fleet"]["nodes"]] == [str(number)]
        fresh = frozen_run(stack, "status", "--refresh").expect(0).json
        assert fresh["data"]["fleet"]["inventory_age_s"] < 20
        assert "could not be kept" in fresh["warnings"][0]
        done = frozen_run(stack, "down").expect(1)
    assert stack.billing() == []
    assert [(row["instance_id"], row["verified"]) for row in done.json["data"]["destroyed"]] == [(str(number), True)]
    assert [error["code"] for error in done.json["errors"]] == ["state_unwritable"]
    assert "ended all the same" in done.json["errors"][0]["message"]
    if stack.state_dir.is_file():
        stack.state_dir.unlink()


def test_a_damaged_ledger_hides_nothing_and_down_says_what_it_did(paper, new_stack):
    stack = new_stack(paper)
    number = power_cut(stack, begin(stack))
    damage(stack, "cut")
    before = (stack.state_dir / "ledger.sqlite3").read_bytes()
    seen = stack.llmhost("--json", "status", "--refresh").expect(1).json
    assert [error["code"] for error in seen["errors"]] == ["ledger_corrupt"]
    assert [(one["instance_id"], one["ours"]) for one in seen["data"]["fleet"]["orphans"]] == [(str(number), True)]
    done = stack.llmhost("--json", "down").expect(1).json
    assert stack.billing() == []
    (error,) = done["errors"]
    assert error["code"] == "ledger_corrupt"
    assert f"Destroyed, and verified: instance {number}." in error["message"]
    assert "Nothing was changed" not in error["hint"]
    assert "mv " in error["hint"]
    assert (stack.state_dir / "ledger.sqlite3").read_bytes() == before


@pytest.mark.parametrize("how", ["junk", "frozen"])
def test_gc_ends_what_it_finds_without_a_ledger_it_can_use(how, paper, new_stack):
    stack = new_stack(paper)
    power_cut(stack, begin(stack))
    if how == "frozen" and frozen.machine_allows(stack.state_dir):
        lose(stack)
        done = frozen_run(stack, "gc", "--yes").expect(1)
    else:
        damage(stack, "junk")
        done = stack.llmhost("--json", "gc", "--yes").expect(1)
    assert stack.billing() == []
    assert [row["verified"] for row in done.json["data"]["destroyed"]] == [True]
    assert done.json["errors"][0]["code"] in ("ledger_corrupt", "state_unwritable")


def test_a_lost_ledger_and_no_key_is_not_nothing(paper, new_stack):
    stack = new_stack(paper)
    power_cut(stack, begin(stack))
    lose(stack)
    done = stack.llmhost("--json", "down", VAST_API_KEY="").expect(4)
    assert "nobody knows" in done.json["errors"][0]["message"]
    assert "VAST_API_KEY=… llmhost down" in done.json["errors"][0]["hint"]
    assert len(stack.billing()) == 1
    stack.down()
    assert stack.billing() == []
    assert stack.llmhost("--json", "down", VAST_API_KEY="").expect(0).json["errors"] == []


@pytest.mark.parametrize("command", ["down", "gc"])
def test_one_empty_list_proves_nothing_where_the_ledger_is_lost(command, paper, new_stack):
    stack = new_stack(paper)
    power_cut(stack, begin(stack))
    lose(stack)
    paper.control.fault("empty_list", "GET", "/instances/", count=1)
    done = stack.llmhost("--json", "--yes", command).expect(0)
    assert stack.billing() == []
    assert [row["verified"] for row in done.json["data"]["destroyed"]] == [True]


def test_who_has_no_key_and_never_rented_is_not_bothered(paper, new_stack):
    stack = new_stack(paper, VAST_API_KEY="")
    assert stack.llmhost("--json", "down").expect(0).json["errors"] == []
    assert paper.control.requests() == []
