"""`up` that does not get to its end: whatever it rented is ended, by itself or by whoever comes next."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess

import pytest

from llmhost.core.ledger import Ledger
from tests.support.system import processes_touching, wait_until


def begin(stack, *args: str, stderr: int = subprocess.DEVNULL) -> subprocess.Popen:
    """`up` as it is when it has rented."""
    up = subprocess.Popen(
        stack.argv("up", "--backend", "rehearsal", "--yes", *args),
        env=stack.env,
        cwd=stack.work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        text=True,
    )
    wait_until(stack.billing, "something is rented", 30)
    return up


def power_cut(stack, up: subprocess.Popen) -> int:
    """Everything of the installation is gone at once, the watch too; the id of what bills."""
    for pid in [up.pid, *processes_touching(stack.root)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    up.wait()
    (number,) = stack.billing()
    return number


def test_ctrl_c_ends_what_was_rented(paper, new_stack):
    stack = new_stack(paper)
    up = begin(stack, "--count", "2")
    up.send_signal(signal.SIGINT)
    assert up.wait(60) == 130
    assert stack.billing() == []
    assert stack.leftovers() == {"processes": {}, "sockets": [], "locks": []}


def test_ctrl_c_twice_leaves_it_to_the_watch_and_says_how_to_end_it(paper, new_stack):
    stack = new_stack(paper)
    paper.control.fault("server_error", "DELETE", count=10_000)
    up = begin(stack, stderr=subprocess.PIPE)
    up.send_signal(signal.SIGINT)
    wait_until(lambda: paper.control.requests("destroy"), "it is being ended", 30)
    up.send_signal(signal.SIGINT)
    _, said = up.communicate(timeout=15)
    assert up.returncode == 130
    assert "llmhost down ends it" in said
    paper.control.clear_faults()
    wait_until(lambda: not stack.billing(), "the watch ended it", 30)


def test_what_could_not_be_ended_is_named_with_its_price(paper, new_stack):
    stack = new_stack(paper, LLMHOST_VAST_VERIFY_S="1")
    paper.control.fault("pretend", "DELETE", count=10_000)
    paper.control.fault("pretend", "PUT", "/instances/", count=10_000)
    up = begin(stack, stderr=subprocess.PIPE)
    up.send_signal(signal.SIGINT)
    _, said = up.communicate(timeout=60)
    assert up.returncode == 6
    (number,) = stack.billing()
    assert f"instance {number} (n1) may still bill ($0." in said
    paper.control.clear_faults()


@pytest.mark.parametrize("ledger", ["there", "deleted", "new", "damaged", "a damaged row"])
def test_down_ends_what_a_dead_up_rented(ledger, paper, new_stack):
    stack = new_stack(paper)
    power_cut(stack, begin(stack))
    if ledger in ("deleted", "new"):
        for file in stack.state_dir.glob("ledger.sqlite3*"):
            file.unlink()
    if ledger == "new":
        Ledger.open(stack.state_dir / "ledger.sqlite3").close()
    if ledger == "damaged":
        (stack.state_dir / "ledger.sqlite3").write_bytes(b"no ledger at all " * 500)
    if ledger == "a damaged row":
        with contextlib.closing(sqlite3.connect(stack.state_dir / "ledger.sqlite3", isolation_level=None)) as opened:
            opened.execute("UPDATE rentals SET rental = '{'")
    done = stack.llmhost("--json", "down")
    assert done.exit_code == (1 if "damaged" in ledger else 0), done.stderr
    assert stack.billing() == []
    assert [row["verified"] for row in done.json["data"]["destroyed"]] == [True]
    assert stack.leftovers()["processes"] == {}


def test_down_without_the_key_says_what_bills(paper, new_stack):
    stack = new_stack(paper)
    number = power_cut(stack, begin(stack))
    stack.env["VAST_API_KEY"] = ""
    done = stack.llmhost("--json", "down").expect(6)
    assert done.json["data"]["still_billing"][0]["instance_id"] in (str(number), None)
    assert "VAST_API_KEY" in done.json["errors"][0]["hint"]
    stack.env["VAST_API_KEY"] = paper.key
    assert stack.down()["destroyed"][0]["verified"]
    assert stack.billing() == []


def test_a_market_that_cannot_be_reached_is_asked_by_the_watch_later(paper, new_stack):
    stack = new_stack(paper, LLMHOST_VAST_VERIFY_S="3")
    power_cut(stack, begin(stack))
    paper.pause()
    done = stack.llmhost("--json", "down").expect(6)
    assert done.json["data"]["still_billing"]
    assert "goes on trying" in done.json["errors"][0]["message"]
    paper.start()
    wait_until(lambda: not stack.billing(), "nothing bills", 30)
    wait_until(lambda: stack.leftovers()["processes"] == {}, "nothing runs", 30)


def test_the_watch_ends_what_a_killed_up_left(paper, new_stack):
    stack = new_stack(paper)
    up = begin(stack)
    up.kill()
    up.wait()
    wait_until(lambda: not stack.billing(), "nothing bills", 30)


def test_the_next_up_ends_what_a_dead_one_left_and_serves(sandboxed, new_stack):
    sandboxed.control.plan("never_leaves_loading")
    stack = new_stack(sandboxed)
    power_cut(stack, begin(stack))
    data = stack.up_vast()
    left, good = sandboxed.control.instances()
    assert not left.alive
    assert [node["instance_id"] for node in data["nodes"]] == [str(good.id)]
    assert stack.billing() == [good.id]


def test_an_account_that_may_rent_no_more_ends_all_of_it(paper, new_stack):
    paper.control.fault("refuse", "PUT", "/asks/", skip=1, count=9, code="insufficient_credit")
    stack = new_stack(paper)
    done = stack.llmhost("--json", "up", "--backend", "rehearsal", "--yes", "--count", "2").expect(3)
    assert done.json["errors"][0]["code"] == "insufficient_credit"
    assert stack.billing() == []
    assert stack.leftovers()["processes"] == {}
