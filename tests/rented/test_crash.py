"""A real process that rents at the stand-in, killed or interrupted at every step: what bills is in the ledger, and the next one ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.rented.conftest import QUICK_SETTINGS, end_everything, known

WRITTEN = {"add:before": "none", "add:after": "intent", "rent:before": "intent", "rent:after": "intent"}
# By the step at which the process is killed, and whether the answer to its create is lost.
RENTING = [
    *((step, lost) for step in ("add:before", "add:after", "rent:before") for lost in (False,)),
    *((step, lost) for step in ("rent:after", "instances:before", "instances:after") for lost in (False, True)),
    *((step, lost) for step in ("move-rented:before", "move-rented:after") for lost in (False, True)),
]
ENDING = [
    "move-destroying:before",
    "move-destroying:after",
    "destroy:before",
    "destroy:after",
    "move-gone:before",
    "move-gone:after",
]


@contextmanager
def driver(home, action, step):
    """The process, standing at the step."""
    environ = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LANG")}
    quick = {f"LLMHOST_{name.upper()}": str(value) for name, value in QUICK_SETTINGS.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.rented.driver", action, step],
        env=environ | home.environ | quick,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if step:
            line = process.stdout.readline()
            assert line == f"at {step}\n", line
        yield process
    finally:
        process.kill()
        process.communicate()


def kill(home, action, step):
    with driver(home, action, step) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(30)


def billing(market_server):
    """The instances that cost money, as the market knows them."""
    ids = {cost.id for cost in market_server.control.billing_now()}
    return [each for each in market_server.control.instances() if each.id in ids]


def states(desk):
    return [row.state for row in desk.ledger.rentals.all()]


def assert_known_and_ended(market_server, desk):
    rows = desk.ledger.rentals.all(open_only=True)
    ids, labels = {row.instance_id for row in rows}, {row.label for row in rows}
    assert all(each.id in ids or each.label in labels for each in billing(market_server))
    end_everything(desk)
    assert market_server.control.billing_now() == []


@pytest.mark.parametrize(("step", "lost"), RENTING)
def test_killed_while_renting(market_server, home, vast_desk, step, lost):
    if lost:
        market_server.control.fault("dropped", "PUT", "/asks/", after=True)
    kill(home, "rent", step)
    made = len(billing(market_server))
    assert made == (step not in WRITTEN or step == "rent:after")
    if step in WRITTEN:
        assert states(vast_desk) == ([] if step == "add:before" else ["intent"])
    assert_known_and_ended(market_server, vast_desk)
    assert states(vast_desk) == ([] if step == "add:before" else ["gone" if made else "refused"])


@pytest.mark.parametrize("step", ENDING)
def test_killed_while_ending(market_server, home, vast_desk, step):
    kill(home, "end", step)
    assert_known_and_ended(market_server, vast_desk)
    assert states(vast_desk) == ["gone"]
    assert vast_desk.ledger.rentals.all()[0].spent_usd is not None


@pytest.mark.parametrize("step", ["rent:before", "rent:after", "instances:before"])
def test_ctrl_c_waits_until_it_is_known_what_was_rented(market_server, home, vast_desk, step):
    if step == "instances:before":
        market_server.control.fault("dropped", "PUT", "/asks/", after=True)
    with driver(home, "rent", step) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline().startswith("note interrupted: waiting")
        out, _ = process.communicate("\n", timeout=60)
    assert (process.returncode, out) == (130, "interrupted\n")
    assert states(vast_desk) == ["rented"]
    assert vast_desk.ledger.rentals.all()[0].instance_id == billing(market_server)[0].id
    assert_known_and_ended(market_server, vast_desk)


def test_ctrl_c_before_the_call_rents_nothing(market_server, home, vast_desk):
    with driver(home, "rent", "add:after") as process:
        process.send_signal(signal.SIGINT)
        process.stdout.readline()
        out, _ = process.communicate("\n", timeout=60)
    assert (process.returncode, out) == (130, "error interrupted\n")
    assert (states(vast_desk), billing(market_server)) == (["refused"], [])
    assert market_server.control.requests("create") == []


def test_a_request_to_terminate_waits_too(market_server, home, vast_desk):
    with driver(home, "rent", "rent:before") as process:
        process.send_signal(signal.SIGTERM)
        process.stdout.readline()
        process.communicate("\n", timeout=60)
    assert process.returncode == -signal.SIGTERM
    assert states(vast_desk) == ["rented"]
    assert_known_and_ended(market_server, vast_desk)


@pytest.mark.parametrize("step", ["rent:before", "rent:after", "instances:before"])
def test_ctrl_c_twice_gives_up_waiting_and_the_ledger_remembers(market_server, home, vast_desk, step):
    if step == "instances:before":
        market_server.control.fault("dropped", "PUT", "/asks/", after=True)
    with driver(home, "rent", step) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline().startswith("note interrupted: waiting")
        process.send_signal(signal.SIGINT)
        out = process.stdout.read()
        process.wait(60)
    assert (process.returncode, out) == (130, "error interrupted_unsettled\n")
    assert states(vast_desk) == ["intent"]
    assert_known_and_ended(market_server, vast_desk)


def test_what_the_driver_does_undisturbed(market_server, home, vast_desk):
    with driver(home, "end", "") as process:
        out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "done\n")
    assert states(vast_desk) == ["gone"]
    assert known(vast_desk, vast_desk.market.instances()) == set()
    assert market_server.control.billing_now() == []
