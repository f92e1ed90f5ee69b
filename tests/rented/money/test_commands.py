"""`status`, `extend`, `cost`, `gc` and `doctor` as real commands, beside machines on the marketplace."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from llmhost.cli.main import main
from llmhost.core.guard_files import AFTER_LEASE_S
from llmhost.fleet.extend import guard_command
from tests.rented.money.world import PATIENCE_S, stamp
from tests.support.sshd import Sshd
from tests.support.system import wait_until


@pytest.fixture
def llmhost(rented, monkeypatch, capsys):
    """`run(words) -> (exit code, envelope)`, one command line in this process."""
    monkeypatch.chdir(rented.place.root)
    for name, value in {**rented.environ, "PATH": "/usr/bin:/bin"}.items():
        monkeypatch.setenv(name, value)

    def run(words, **environ):
        with monkeypatch.context() as here:
            for name, value in environ.items():
                here.setenv(name, value)
            code = main(["--json", *shlex.split(words)])
        out, err = capsys.readouterr()
        assert rented.server.key not in out + err
        return code, json.loads(out)

    return run


def _asked(data):
    return data if (data["requests"] or {}).get("total") else None


def codes(data):
    return [one["code"] for one in data["advice"]]


def test_status_has_the_money_of_a_fleet_without_asking_anybody(rented, llmhost):
    rental = rented.rent(ago_s=3600.0)
    rented.rent("n2", state="rented", phase="model", detail="fetching 40 %", ago_s=1800.0)
    rented.terms(budget_usd=1.0, lease_ends_at=stamp(-600.0))
    rented.server.pause()
    code, answer = llmhost("status")
    rented.server.start()
    fleet, (ready, booting) = answer["data"]["fleet"], answer["data"]["fleet"]["nodes"]
    assert code == 0
    assert (ready["instance_id"], ready["price_usd_per_hour"]) == (str(rental.instance_id), 0.4)
    assert ready["spent_usd"] == pytest.approx(0.4, abs=0.02)
    assert ready["uptime_s"] == pytest.approx(3600, abs=120)
    assert (ready["state"], ready["tunnel"]["state"]) == ("unreachable", "stopped")
    assert (booting["id"], booting["state"]) == ("n2", "loading")
    assert fleet["price_usd_per_hour"] == pytest.approx(0.8)
    assert fleet["spent_usd"] == pytest.approx(0.6, abs=0.03)
    assert (fleet["budget_usd"], fleet["inventory_age_s"]) == (1.0, None)
    assert fleet["lease_ends_at"]
    assert {"no_watch", "budget", "lease"} <= set(codes(answer["data"]))
    commands = {one["code"]: one["command"] for one in answer["data"]["advice"]}
    assert (commands["no_watch"], commands["lease"]) == ("llmhost tunnel", "llmhost extend 2h")


@pytest.mark.parametrize(
    ("state", "shown", "advice"),
    [
        ("intent", "renting", "rent_unsettled"),
        ("unknown", "renting", "rent_unsettled"),
        ("destroying", "destroying", "still_billing"),
    ],
)
def test_what_may_bill_is_a_node_with_a_way_out(rented, llmhost, state, shown, advice):
    rented.rent(state=state)
    code, answer = llmhost("status")
    (node,) = answer["data"]["fleet"]["nodes"]
    assert (code, node["state"]) == (0, shown)
    assert node["reason"]
    (found,) = [one for one in answer["data"]["advice"] if one["code"] == advice]
    assert found["command"] == "llmhost down"
    assert "no_fleet" not in codes(answer["data"])


def test_refresh_finds_orphans_and_gc_ends_ours_alone(rented, llmhost):
    ours, theirs = rented.machine(rented.label()), rented.machine("somebody's")
    known = rented.rent()
    code, answer = llmhost("status --refresh")
    fleet = answer["data"]["fleet"]
    assert code == 0
    assert [(one["instance_id"], one["ours"]) for one in fleet["orphans"]] == [(str(ours), True), (str(theirs), False)]
    assert fleet["inventory_age_s"] < 30
    assert codes(answer["data"])[0] == "orphans"
    assert "llmhost gc" in [one["command"] for one in answer["data"]["advice"]]

    code, answer = llmhost("gc")
    assert (code, answer["errors"][0]["code"]) == (2, "not_confirmed")
    assert ours in rented.bills()

    code, answer = llmhost("gc --yes")
    assert code == 0
    assert [(one["instance_id"], one["verified"]) for one in answer["data"]["destroyed"]] == [(str(ours), True)]
    assert [one["instance_id"] for one in answer["data"]["others"]] == [str(theirs)]
    assert rented.bills() == sorted([theirs, known.instance_id])


def test_gc_says_6_when_one_may_still_bill(rented, llmhost):
    rented.machine(rented.label())
    rented.control.fault("server_error", "DELETE", count=-1)
    code, answer = llmhost("gc --yes", LLMHOST_VAST_VERIFY_S="1")
    assert (code, answer["errors"][0]["code"]) == (6, "still_billing")
    assert len(answer["data"]["still_billing"]) == len(rented.bills()) == 1


def test_a_refresh_in_vain_is_a_warning_and_the_list_keeps_its_age(rented, llmhost):
    rented.rent()
    llmhost("status --refresh")
    rented.server.pause()
    code, answer = llmhost("status --refresh", LLMHOST_VAST_READ_TIMEOUT_S="1")
    rented.server.start()
    assert code == 0
    assert "market could not be asked" in answer["warnings"][0]
    assert answer["data"]["fleet"]["inventory_age_s"] is not None
    assert "market_silent" in codes(answer["data"])


def test_a_refresh_without_an_account_is_as_none(rented, llmhost):
    code, answer = llmhost("status --refresh", VAST_API_KEY="")
    assert (code, answer["warnings"]) == (0, [])


def test_extend_moves_the_end_and_names_who_could_not_be_told(rented, llmhost):
    rented.rent()
    rented.terms(lease_ends_at=stamp(-60.0), budget_usd=2.0)
    code, answer = llmhost("extend 4h")
    ends = datetime.fromisoformat(answer["data"]["lease_ends_at"])
    assert abs(ends - datetime.now(UTC) - timedelta(hours=4)) < timedelta(minutes=1)
    assert (code, answer["errors"][0]["code"]) == (5, "guard_not_moved")
    assert [(one["id"], one["moved"]) for one in answer["data"]["nodes"]] == [("n1", False)]
    with rented.ledger() as ledger:
        kept = ledger.rentals.terms("default")
    assert (kept.lease_ends_at, kept.budget_usd) == (answer["data"]["lease_ends_at"], 2.0)
    assert llmhost("extend none")[1]["data"]["lease_ends_at"] is None
    assert llmhost("extend soon")[0] == 2
    assert llmhost("--fleet other extend 4h")[1]["errors"][0]["code"] == "nothing_rented"


def test_extend_tells_the_machine_itself(rented, llmhost, short_tmp):
    with Sshd(short_tmp / "machine") as machine:
        rental = rented.rent()
        with rented.ledger() as ledger:
            node = rented.node(rental)
            spec = {**node.spec, "target": machine.target.as_dict(), "identity": str(machine.client_key)}
            ledger.put_node(replace(node, spec=spec))
        code, answer = llmhost("extend 2h")
        ends = int((machine.user_home / ".llmhost" / "guard" / "ends").read_text())
        assert (code, answer["errors"]) == (0, [])
        assert answer["data"]["nodes"] == [{"id": "n1", "moved": True, "reason": None}]
        # after the watch, which lets answers under way finish
        assert abs(ends - AFTER_LEASE_S - datetime.fromisoformat(answer["data"]["lease_ends_at"]).timestamp()) <= 1
        assert llmhost("extend none")[0] == 0
        assert not (machine.user_home / ".llmhost" / "guard" / "ends").exists()


def test_the_same_for_people(rented, llmhost, capsys):
    rented.rent(ago_s=3600.0)
    rented.machine(rented.label())
    rented.machine("somebody's")
    rented.terms(budget_usd=1.0, lease_ends_at=stamp(-7200.0))
    assert main(["status", "--refresh"]) == 0
    shown = capsys.readouterr().out
    assert "$0.40/h · spent $0.40 · of $1.00 · until " in shown
    assert "not in any fleet, but billing: " in shown
    assert "not by this installation: " in shown
    assert "llmhost gc" in shown
    assert main(["cost"]) == 0
    shown = capsys.readouterr().out
    assert "fleet default: $0.40, $0.40 of a budget of $1.00 since its last start" in " ".join(shown.split())
    assert main(["gc", "--yes"]) == 0
    assert "not ours, left alone: " in capsys.readouterr().out
    assert main(["extend", "2h"]) == 5
    told = capsys.readouterr()
    assert "n1 keeps its own end" in told.out
    assert "n1 could not be told" in told.err


def test_the_guard_of_a_machine_is_told_in_one_piece(short_tmp):
    ends = datetime(2026, 11, 21, 12, tzinfo=UTC)
    for when, expected in ((ends, f"{1795262400 + AFTER_LEASE_S}\n"), (None, None)):
        subprocess.run(["/bin/sh", "-c", guard_command(when)], cwd=short_tmp, check=True)
        file = short_tmp / ".llmhost" / "guard" / "ends"
        assert (file.read_text() if file.exists() else None) == expected
    assert list(file.parent.iterdir()) == []


def test_cost_has_every_machine_there_ever_was(rented, llmhost):
    rented.rent("n1", ago_s=3600.0)
    rented.rent("n2", fleet="work", ago_s=7200.0)
    rented.rent("n3", state="gone", ended_at=stamp(1800.0), spent_usd=0.25, why="down")
    rented.rent("n4", state="refused", rented_at=None, instance_id=None)
    code, answer = llmhost("cost")
    data = answer["data"]
    assert code == 0
    assert [one["node_id"] for one in data["nodes"]] == ["n2", "n1", "n3"]
    assert data["total_usd"] == pytest.approx(0.4 + 0.8 + 0.25, abs=0.02)
    assert data["price_usd_per_hour"] == pytest.approx(0.8)
    assert {one["name"]: one["spent_usd"] > 0 for one in data["fleets"]} == {"default": True, "work": True}
    assert (data["requests"], data["compared"]) == (None, [])


def test_cost_knows_what_a_request_cost(rented, llmhost):
    assert llmhost("up --provider local --backend rehearsal --yes")[0] == 0
    try:
        token = (rented.paths.gateway_token_file).read_text().strip()
        gateway = llmhost("status")[1]["data"]["gateway"]["url"]
        body = json.dumps({"max_tokens": 20, "messages": [{"role": "user", "content": "hello there"}]})
        ask = ["curl", "-s", f"{gateway}/v1/messages", "-H", f"x-api-key: {token}", "-d", body]
        subprocess.run(ask, check=True, capture_output=True, timeout=30)
        rented.rent("n9", state="rented", ago_s=3600.0)
        asked = wait_until(lambda: _asked(llmhost("cost")[1]["data"]), "the gateway to have counted it")
    finally:
        llmhost("down --all --yes")
    assert asked["requests"]["total"] >= 1
    assert asked["requests"]["tokens"]["output"] > 0
    assert asked["requests"]["usd_per_request"] == pytest.approx(
        asked["requests"]["cost_usd"] / asked["requests"]["total"], abs=1e-6
    )
    assert all(one["as_of"] and one["would_have_cost_usd"] > 0 for one in asked["compared"])


def test_doctor_tries_the_key_and_names_what_bills(rented, llmhost):
    def checks(**environ):
        return {one["name"]: one for one in llmhost("doctor", **environ)[1]["data"]["checks"]}

    rented.rent()
    rented.machine(rented.label())
    llmhost("status --refresh")
    found = checks()
    assert found["account"]["state"] == "ok"
    assert "$25" in found["account"]["detail"] or "$24" in found["account"]["detail"]
    assert (found["watch"]["state"], found["orphans"]["command"]) == ("failed", "llmhost gc")
    assert found["installation"]["state"] == "ok"
    assert checks(VAST_API_KEY="wrong" * 8)["account"]["state"] == "failed"
    assert checks(VAST_API_KEY="")["account"]["state"] == "failed"  # something is rented, and nobody could end it


def test_what_the_watch_ended_is_explained_afterwards(rented, llmhost):
    rented.rent(ago_s=3600.0)
    rented.terms(lease_ends_at=stamp(1.0))
    rented.watch()
    wait_until(lambda: not rented.place.children(), f"the end of it\n{rented.log()}", PATIENCE_S)
    data = llmhost("status")[1]["data"]
    (gone,) = [one for one in data["advice"] if one["code"] == "node_gone"]
    assert "the lease ended" in gone["text"]
    assert "$0.4" in gone["text"]
    assert data["fleet"]["nodes"] == []


def test_a_node_whose_machine_is_gone_leaves_with_the_next_look(rented, llmhost):
    rental = rented.rent()
    with rented.ledger() as ledger:
        ledger.put_node(rented.node(rental))
    rented.control.destroy(rental.instance_id)
    code, answer = llmhost("status --refresh")
    assert code == 0
    assert answer["data"]["fleet"]["nodes"] == []
    assert [warning for warning in answer["warnings"] if warning.startswith("n1 is gone")], answer["warnings"]
    assert llmhost("cost")[1]["data"]["nodes"]


def test_a_machine_that_does_not_run_is_no_broken_link(rented, llmhost):
    rental = rented.rent()
    rented.control.advance(600.0)
    rented.control.settle()
    rented.control.status(rental.instance_id, actual_status="offline")
    data = llmhost("status --refresh")[1]["data"]
    (said,) = [one for one in data["advice"] if one["code"] == "machine_at_rest"]
    assert "n1 is offline" in said["text"]
    assert said["command"] == "llmhost down n1"
