"""How instances live, by scenario."""

from __future__ import annotations

import pytest

from tests.support.marketplace.scenarios import SCENARIOS


@pytest.fixture
def live(api, control):
    """The rows of an instance of a scenario at the given seconds after its creation."""

    def run(scenario, *times):
        control.plan(scenario)
        number, rows, passed = api.rent(label=scenario), [], 0.0
        for each in times:
            control.advance(each - passed)
            passed = each
            rows.append(api.row(number))
        return rows

    return run


def statuses(rows):
    return [row and row["actual_status"] for row in rows]


def states(row):
    return [row[key] for key in ("actual_status", "intended_status", "cur_state", "next_state")]


def test_every_scenario_begins_without_a_status_and_ends_with_the_bill(api, control):
    for scenario in SCENARIOS:
        control.plan(scenario)
        assert api.row(api.rent())["actual_status"] is None
    control.advance(1200)
    for cost in control.billing_now():
        control.destroy(cost.id)
    assert control.billing_now() == []
    spent = control.spent()
    control.advance(86_400)
    assert control.spent() == spent > 0


def test_happy_warm(live):
    rows = live("happy_warm", 1, 2, 3, 14.9, 15)
    assert statuses(rows) == [None, "created", "loading", "loading", "running"]
    assert rows[3]["status_msg"] == "Successfully loaded vastai/base-image:cuda-12.8\n"
    assert rows[4]["status_msg"] == "success, running vastai/base-image_cuda-12.8/ssh"
    assert [row["ports"] for row in rows[:4]] == [None] * 4
    assert rows[4]["ports"]["22/tcp"][0] == {"HostIp": "0.0.0.0", "HostPort": str(rows[4]["direct_port_start"])}
    assert (rows[3]["disk_usage"], rows[3]["gpu_util"], rows[4]["gpu_util"]) == (-1, None, 0.0)


def test_happy_cold(live):
    rows = live("happy_cold", 30, 100, 200, 244, 245)
    assert statuses(rows) == ["loading"] * 4 + ["running"]
    assert len({row["status_msg"] for row in rows}) == 5
    assert rows[1]["status_msg"].endswith(("Pull complete\n", "Download complete\n"))


def test_manifest_unknown_stays_loading(live):
    rows = live("manifest_unknown", 19, 20, 40, 3600)
    assert statuses(rows) == ["loading"] * 4
    assert rows[1]["status_msg"].startswith(
        "Error response from daemon: manifest for vastai/base-image:cuda-12.8 not found"
    )
    assert [row["cur_state"] for row in rows] == ["running", "running", "stopped", "stopped"]


def test_dead_host(live):
    [row] = live("dead_host", 1260)
    assert (row["actual_status"], row["intended_status"], row["status_msg"]) == ("loading", "stopped", "")


def test_unpack_freeze_is_silent_for_eight_minutes(live):
    rows = live("unpack_freeze", 70, 540, 1100)
    assert rows[0]["status_msg"] == rows[1]["status_msg"]
    assert rows[0]["status_msg"].endswith("Pull complete\n")
    assert statuses(rows) == ["loading", "loading", "running"]


def test_oci_fail(live):
    [row] = live("oci_fail", 60)
    assert row["actual_status"] == "created"
    assert "OCI runtime create failed" in row["status_msg"]


def test_exited_then_back(live, control):
    rows = live("exited_then_back", 20, 50, 164, 165)
    assert statuses(rows) == ["running", "exited", "exited", "running"]
    assert rows[1]["ports"] is None
    assert control.instance(rows[0]["id"]).machine.starts == 2


def test_offline_later_bills_nothing_and_goes_on_existing(live, control):
    [row] = live("offline_later", 76)
    assert (row["actual_status"], row["intended_status"]) == ("offline", "running")
    [cost] = control.billing_now()
    assert cost.dollars_per_hour == 0
    assert control.instance(row["id"]).machine.hurts == [("hang", "both")]


def test_offline_then_back(live, control):
    rows = live("offline_then_back", 80, 170)
    assert statuses(rows) == ["offline", "running"]
    assert control.billing_now()[0].dollars_per_hour > 0


def test_unknown_heartbeat(live):
    assert statuses(live("unknown_heartbeat", 74, 76, 106)) == ["running", "unknown", "running"]


def test_evict(live):
    rows = live("evict", 12, 14, 60)
    assert [row["next_state"] for row in rows] == ["running", "stopped", "stopped"]
    assert statuses(rows) == ["loading", "loading", "exited"]


def test_outbid(live):
    rows = live("outbid", 80)
    assert (rows[0]["intended_status"], rows[0]["actual_status"]) == ("running", "stopped")


def test_credit_zero_stops_everything(live, api, control, server):
    other = api.rent()
    rows = live("credit_zero", 70, 77)
    assert states(rows[0]) == ["running"] * 4
    assert states(rows[1]) == states(api.row(other)) == ["stopped"] * 4
    assert api.get("/api/v0/users/current").json()["credit"] <= 0
    assert not control.instance(other).machine.running


def test_an_account_that_runs_dry_by_itself(server, api, control):
    server.market.account.credit = 0.1
    number = api.rent()
    control.advance(600)
    assert api.row(number)["actual_status"] == "running"
    control.advance(1200)
    assert states(api.row(number)) == ["stopped"] * 4


def test_never_leaves_loading(live):
    assert statuses(live("never_leaves_loading", 10, 10_000)) == ["loading", "loading"]


def test_ip_changes(live):
    before, after = live("ip_changes", 74, 76)
    assert before["public_ipaddr"] != after["public_ipaddr"]
    assert before["ports"] != after["ports"]
    assert (before["ssh_host"], before["ssh_port"]) == (after["ssh_host"], after["ssh_port"])


def test_ports_null_while_running(live):
    rows = live("ports_null_while_running", 15, 74, 76)
    assert statuses(rows) == ["running"] * 3
    assert [bool(row["ports"]) for row in rows] == [False, False, True]


def test_price_increase(live, api):
    [row] = live("price_increase", 80)
    [rise] = api.get("/api/v0/instances/pending-price-increases/").json()["pending_price_increases"]
    assert rise["instance_id"] == row["id"]
    assert rise["new_price"] == pytest.approx(rise["current_price"] * 1.1, abs=1e-4)
    assert api.row(row["id"])["dph_base"] == rise["current_price"]
    wish = {"pending_price_increase_id": rise["id"]}
    assert api.put("/api/v0/instances/accept-price-increase/", json=wish).json() == {"success": True}
    assert api.row(row["id"])["dph_base"] == pytest.approx(rise["new_price"])
    assert api.put("/api/v0/instances/reject-price-increase/", json=wish).status_code == 404


def test_a_price_increase_that_is_rejected(live, api):
    [row] = live("price_increase", 80)
    [rise] = api.get("/api/v0/instances/pending-price-increases/").json()["pending_price_increases"]
    assert api.put("/api/v0/instances/reject-price-increase/", json={"pending_price_increase_id": rise["id"]}).json()[
        "success"
    ]
    assert api.row(row["id"])["dph_base"] == rise["current_price"]


def test_contract_end(live, control):
    rows = live("contract_end", 20, 614, 616, 615 + 48 * 3600, 620 + 48 * 3600)
    assert rows[0]["end_date"] == rows[0]["start_date"] + 615
    assert statuses(rows) == ["running", "running", "stopped", "stopped", None]
    assert control.billing_now() == []


def test_gpu_lost(live, control):
    [row] = live("gpu_lost", 80)
    assert row["actual_status"] == "running"
    assert control.instance(row["id"]).machine.hurts == [("gpu_lost", "both")]


def test_scenarios_in_turn_and_by_machine(api, control):
    control.plan("dead_host", "oci_fail")
    control.plan("never_leaves_loading", machine_id=43973)
    numbers = [api.rent(32493628), api.rent(), api.rent(), api.rent()]
    control.advance(60)
    assert [api.row(each)["intended_status"] for each in numbers] == ["running", "stopped", "running", "running"]
    assert [api.row(each)["actual_status"] for each in numbers] == ["loading", "loading", "created", "running"]


def test_the_pace_shortens_a_life(api, control):
    control.set(pace=0.1)
    number = api.rent()
    control.advance(1.6)
    assert api.row(number)["actual_status"] == "running"


def test_a_state_by_hand(api, control):
    number = api.rent()
    control.status(number, actual_status="frozen")
    assert api.row(number)["actual_status"] == "frozen"


@pytest.mark.parametrize("what", ["scenario", "setting", "fault"])
def test_names_that_are_none(control, what):
    with pytest.raises(ValueError, match="no such"):
        {"scenario": control.plan, "setting": lambda _: control.set(nonsense=1), "fault": control.fault}[what](
            "nonsense"
        )
