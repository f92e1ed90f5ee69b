"""What a machine cost, and what a fleet's budget, lease and idle time make of it: tables, without anything that runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from llmhost.core.rentals import Inventory, Rental, Terms
from llmhost.fleet.rented import bill, budget, idle, inventory_view, vanished, warnings
from llmhost.fleet.rented.alerts import Alert
from llmhost.fleet.rented.list_prices import PRICES, Tokens, compared
from llmhost.fleet.rented.memory import Memory
from llmhost.providers.market import Instance

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINE = "1" * 32
LABEL = f"llmhost/1/{MINE}/default/aaaaaaaaaaaa/1"


def ago(**length):
    return (NOW - timedelta(**length)).isoformat(timespec="seconds")


def rental(**fields):
    row = {
        "label": LABEL,
        "fleet": "default",
        "node_id": "n1",
        "state": "ready",
        "created_at": ago(hours=3),
        "rented_at": ago(hours=2),
        "ready_at": ago(hours=1),
        "offer_id": 1,
        "machine_id": 2,
        "host_id": 3,
        "gpu": "RTX 4090",
        "price_usd_per_hour": 0.5,
        "instance_id": 7,
    }
    return Rental(**{**row, **fields})


GONE = {"state": "gone", "ended_at": ago(hours=1)}
FETCHED = {"terms": {"model_gb": 20.0, "down_usd_per_gb": 0.01}}


@pytest.mark.parametrize(
    ("fields", "dollars"),
    [
        ({}, 1.0),  # two hours since it was rented
        ({"state": "intent", "rented_at": None, "ready_at": None, "instance_id": None}, 0.0),
        ({"state": "refused", "rented_at": None, "ready_at": None, "instance_id": None}, 0.0),
        ({"state": "unknown", "rented_at": None, "ready_at": None, "instance_id": None}, 1.5),  # since the attempt
        ({"state": "destroying", "rented_at": None}, 1.5),
        ({"state": "gone", "rented_at": None, "instance_id": None, "ended_at": ago(hours=1)}, 0.0),  # never was there
        (GONE, 0.5),  # until it ended, however late one asks
        ({**GONE, "spent_usd": 0.42}, 0.42),
        ({"spent_usd": 0.42}, 1.0),  # not final while it may bill
        (FETCHED, 1.2),
        ({**FETCHED, "state": "rented", "ready_at": None, "phase": "booting"}, 1.0),  # it has fetched nothing yet
        ({**FETCHED, "state": "rented", "ready_at": None, "phase": "model"}, 1.2),
        ({"terms": {"model_gb": None, "down_usd_per_gb": 0.01}}, 1.0),
        ({"rented_at": (NOW + timedelta(hours=1)).isoformat()}, 0.0),  # a clock that was set back earns nothing
        ({"rented_at": "2026-11-21T10:00:00"}, 1.0),  # without a zone: UTC
        ({"terms": {bill.PRICES: [[ago(hours=1), 1.0]]}}, 1.5),  # dearer for the second hour
        ({"terms": {bill.PRICES: [[ago(minutes=90), 1.0], [ago(minutes=30), 2.0]]}}, 0.25 + 1.0 + 1.0),
    ],
)
def test_what_a_machine_cost(fields, dollars):
    assert bill.spent(rental(**fields), NOW) == pytest.approx(dollars)


def test_a_rise_is_reckoned_from_its_moment_on():
    dearer = replace(rental(), terms=bill.raised(rental(), 1.0, NOW))
    assert bill.price(dearer) == 1.0
    assert bill.spent(dearer, NOW) == pytest.approx(1.0)
    assert bill.spent(dearer, NOW + timedelta(hours=1)) == pytest.approx(2.0)


def test_a_bill_has_a_line_for_what_was_bought():
    never = rental(label="x", state="refused", rented_at=None, instance_id=None)
    (line,) = bill.lines([rental(**FETCHED), never], NOW)
    assert (line.node_id, line.instance_id, line.open) == ("n1", "7", True)
    assert (line.hours, line.download_usd, line.total_usd) == pytest.approx((2.0, 0.2, 1.2))
    assert bill.hourly([rental(), rental(**GONE), never]) == 0.5


def test_what_was_paid_in_a_while_counts_machines_that_are_gone_since():
    both = [rental(), rental(**GONE, spent_usd=0.5)]
    paid = bill.total(both, NOW) - bill.total_at(both, NOW - timedelta(minutes=90))
    assert paid == pytest.approx(0.75 + 0.25)


def terms(**fields):
    return Terms("default", since=ago(hours=2.5), **fields)


def test_the_budget_is_for_what_was_rented_under_it():
    before = rental(
        label="old", created_at=ago(days=2), rented_at=ago(days=2), state="gone", ended_at=ago(days=1), spent_usd=12.0
    )
    kept = rental(label="kept", created_at=ago(hours=3))
    tried = rental(label="tried", created_at=ago(hours=2.4), state="gone", ended_at=ago(hours=2), spent_usd=0.1)
    other = rental(label="other", fleet="work")
    standing = budget.standing("default", terms(budget_usd=2.0), [before, kept, tried, other], NOW)
    assert standing.spent_usd == pytest.approx(1.1)
    assert standing.percent == pytest.approx(55.0)
    assert budget.reached(standing) == (50,)
    assert budget.is_over(standing, NOW) is None
    assert budget.standing("work", None, [before, other], NOW).percent is None


@pytest.mark.parametrize(
    ("limit", "steps", "over"),
    [
        (None, (), None),
        (4.0, (), None),
        (2.0, (50,), None),
        (1.25, (50, 80), None),
        (1.0, (50, 80, 100), "the budget of $1.00 is spent"),
    ],
)
def test_the_steps_of_a_budget(limit, steps, over):
    standing = budget.standing("default", terms(budget_usd=limit), [rental()], NOW)
    assert budget.reached(standing) == steps
    assert budget.is_over(standing, NOW) == over
    told = warnings.budget_alerts(replace(standing, terms=terms(budget_usd=limit, alerted=(50,))))
    assert [alert.facts["percent"] for alert in told] == [step for step in steps if step != 50]


@pytest.mark.parametrize(
    ("left", "warning", "over"),
    [
        (timedelta(hours=1), None, None),
        (timedelta(minutes=14), 900.0, None),
        (timedelta(minutes=4), 300.0, None),
        (timedelta(0), None, "the lease ended"),
        (timedelta(minutes=-1), None, "the lease ended"),
    ],
)
def test_the_end_of_a_lease(left, warning, over):
    ends = terms(lease_ends_at=(NOW + left).isoformat())
    assert budget.lease_warning(ends, NOW) == warning
    assert budget.is_over(budget.standing("default", ends, [rental()], NOW), NOW) == over


def test_nobody_sleeps_past_a_moment_that_matters():
    soon = budget.standing("default", terms(lease_ends_at=(NOW + timedelta(minutes=20)).isoformat()), [rental()], NOW)
    assert budget.next_moment(soon, NOW) == NOW + timedelta(minutes=5)
    dear = budget.standing("default", terms(budget_usd=1.3), [rental()], NOW)  # 80 % is $1.04
    assert budget.next_moment(dear, NOW) == pytest.approx(NOW + timedelta(hours=0.08), abs=timedelta(seconds=1))
    assert budget.next_moment(budget.standing("default", None, [rental()], NOW), NOW) is None


def test_credit_that_runs_out():
    standing = budget.standing("default", None, [rental()], NOW)
    assert budget.runs_dry_at([standing], 1.0, NOW) == NOW + timedelta(hours=2)
    assert budget.runs_dry_at([standing], None, NOW) is None
    assert budget.runs_dry_at([], 1.0, NOW) is None


def look(**fields):
    known = terms(**fields.pop("terms", {}))
    return warnings.Look(budget.standing("default", known, [rental()], NOW), NOW, **fields)


def told(seen, memory=None, inventory=None):
    return [alert.kind for alert in warnings.other_alerts(seen, inventory or Inventory(), memory or Memory())]


def test_each_warning_once():
    memory = Memory()
    soon = look(terms={"lease_ends_at": (NOW + timedelta(minutes=4)).isoformat()}, dry_at=NOW + timedelta(minutes=30))
    assert told(soon, memory) == ["lease", "credit"]
    assert told(soon, memory) == []


@pytest.mark.parametrize(
    ("since", "kinds"),
    [(timedelta(minutes=20), []), (timedelta(minutes=26), ["idle"]), (timedelta(minutes=31), ["idle"])],
)
def test_an_idle_fleet_is_told_of_its_end(since, kinds):
    seen = look(terms={"idle_s": 1800.0}, idle_since=NOW - since)
    assert told(seen) == kinds
    assert told(look(terms={"idle_s": None}, idle_since=NOW - since)) == []


def test_a_host_that_takes_its_machine_back_is_told_of():
    row = Instance(7, ends_at=(NOW + timedelta(minutes=30)).timestamp()).as_dict()
    assert told(look(), inventory=Inventory(ago(), (row,))) == ["host_ends"]


def reading(id, in_flight=0, **requests):
    return {"id": id, "in_flight": in_flight, "requests": requests}


def test_what_counts_as_a_request():
    quiet = idle.Activity("2026-11-21T10:00:00+00:00", {"n1": 5})
    at = NOW.isoformat(timespec="seconds")
    cases = [
        ([reading("n1", ok=5)], quiet.at),
        ([reading("n1", ok=5, failed=1)], at),
        ([reading("n1", ok=5, in_flight=0), reading("n9", ok=77)], quiet.at),  # another fleet's
        ([reading("n1", 1, ok=5)], at),
        ([reading("n1", ok=0)], quiet.at),  # a gateway that began anew
        ([reading("n1", ok=2)], at),  # and was asked since
        ([], quiet.at),
    ]
    for readings, expected in cases:
        assert idle.looked(quiet, readings, {"n1"}, NOW).at == expected, readings
    away = idle.looked(quiet, [], {"n1"}, NOW)
    assert idle.looked(away, [reading("n1", ok=5)], {"n1"}, NOW).at == quiet.at  # its coming back is no request


def test_an_answer_of_the_cache_is_a_request_although_no_node_saw_it():
    quiet = idle.Activity(ago(minutes=29), {"n1": 5, "gateway": 9})
    nodes = [reading("n1", ok=5)]
    at = NOW.isoformat(timespec="seconds")
    for total, in_flight, expected in ((9, 0, quiet.at), (10, 0, at), (9, 1, at), (0, 0, quiet.at), (3, 0, at)):
        requests = {"total": total, "in_flight": in_flight}
        assert idle.looked(quiet, nodes, {"n1"}, NOW, requests).at == expected, requests
    assert idle.looked(quiet, nodes, {"n7"}, NOW, {"total": 99}).at == quiet.at  # another fleet's gateway
    later = idle.looked(quiet, nodes, {"n1"}, NOW, {"total": 10})
    assert idle.looked(later, nodes, {"n1"}, NOW + timedelta(hours=1), {"total": 10}).at == at


def test_work_that_is_no_request_is_use_too():
    quiet = idle.Activity(ago(minutes=29))
    assert idle.used(quiet, [NOW]).at == NOW.isoformat(timespec="seconds")
    assert idle.used(quiet, [NOW - timedelta(hours=1)]).at == quiet.at
    assert idle.used(quiet, []) == quiet


def test_idle_is_what_could_have_been_asked():
    activity = idle.Activity(ago(minutes=90))
    assert idle.idle_since(activity, [rental()]) == NOW - timedelta(hours=1)  # it is ready since then
    assert idle.idle_since(idle.Activity(ago(minutes=5)), [rental()]) == NOW - timedelta(minutes=5)
    assert idle.idle_since(activity, [rental(), rental(state="rented")]) is None
    assert idle.idle_since(activity, []) is None


def test_who_bills_without_a_fleet():
    rows = (
        Instance(7, LABEL, price_usd_per_hour=0.5),
        Instance(8, LABEL),  # a second machine with a label that has its machine
        Instance(9, "renamed", f"{LABEL[:-1]}2"),
        Instance(10, "somebody's"),
        Instance(11, f"llmhost/1/{'2' * 32}/default/aaaaaaaaaaaa/1"),
    )
    listed = Inventory(ago(), tuple(row.as_dict() for row in rows))
    found = inventory_view.orphans(listed, [rental()], MINE)
    assert [(one["instance_id"], one["ours"]) for one in found] == [
        ("8", True),
        ("9", True),
        ("10", False),
        ("11", False),
    ]
    unsettled = rental(state="unknown", instance_id=None)
    assert "7" not in [one["instance_id"] for one in inventory_view.orphans(listed, [unsettled], MINE)]
    assert all(not one["ours"] for one in inventory_view.orphans(listed, [rental()], None))


def test_a_price_that_rose():
    listed = Inventory(ago(), (Instance(7, LABEL, price_usd_per_hour=0.6).as_dict(),))
    (risen,) = inventory_view.risen(listed, [rental()])
    assert (risen.before, risen.now) == (0.5, 0.6)
    known = replace(rental(), terms=bill.raised(rental(), 0.6, NOW))
    assert not list(inventory_view.risen(listed, [known]))


@pytest.mark.parametrize(
    ("row", "lease", "silent_s", "credit", "why"),
    [
        (Instance(7, ends_at=NOW.timestamp()), None, None, 5.0, vanished.BY_HOST),
        (Instance(7), ago(minutes=1), None, 5.0, vanished.BY_LEASE),
        (Instance(7), None, 3000.0, 5.0, vanished.BY_SILENCE),
        (Instance(7), None, None, 0.0, vanished.NO_CREDIT),
        (Instance(7), None, 60.0, 5.0, vanished.BY_SOMEBODY),
    ],
)
def test_why_a_machine_went_without_us(row, lease, silent_s, credit, why):
    gone = rental(state="gone", ended_at=ago())
    assert vanished.why_gone(gone, row, terms(lease_ends_at=lease), credit, silent_s, 2700.0) == why


def test_a_machine_that_its_own_guard_ended_for_want_of_requests():
    gone = rental(state="gone", ended_at=NOW.isoformat())
    terms = Terms("default", idle_s=1800.0)
    since = NOW - timedelta(minutes=31)
    assert vanished.why_gone(gone, None, terms, 5.0, 1900.0, 2700.0, since) == vanished.BY_IDLE
    assert vanished.why_gone(gone, None, terms, 5.0, None, 2700.0, NOW) == vanished.BY_SOMEBODY
    assert vanished.why_gone(gone, None, replace(terms, idle_s=None), 5.0, None, 2700.0, since) == vanished.BY_SOMEBODY


def test_prices_elsewhere_have_a_date_and_a_source():
    tokens = Tokens(input=1_000_000, reused=10_000_000, output=500_000)
    for price, one in zip(PRICES, compared(tokens, 1.0), strict=True):
        there = price.input_usd + 10 * price.reused_usd + price.output_usd / 2
        assert one["would_have_cost_usd"] == pytest.approx(there)
        assert one["saved_usd"] == pytest.approx(there - 1.0)
        assert one["as_of"]
        assert one["source"]


def test_what_an_alert_command_is_told():
    alert = Alert("budget", "default", "It costs.", {"percent": 50, "budget_usd": None})
    told = {"LLMHOST_ALERT_KIND": "budget", "LLMHOST_ALERT_FLEET": "default", "LLMHOST_ALERT_TEXT": "It costs."}
    assert alert.environment() == {**told, "LLMHOST_ALERT_PERCENT": "50"}


def test_a_list_that_is_older_than_the_end_makes_no_orphan():
    ended = rental(state="gone", ended_at=ago(minutes=1))
    row = Instance(ended.instance_id or 0, label=ended.label).as_dict()
    for age, names in (({"minutes": 2}, []), ({"seconds": 1}, [str(ended.instance_id)])):
        listed = Inventory(ago(**age), (row,))
        assert [one["instance_id"] for one in inventory_view.orphans(listed, [ended], MINE)] == names
