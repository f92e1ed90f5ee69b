"""Commands to instances."""

from __future__ import annotations

import pytest

GONE = 4711


@pytest.fixture
def number(api, control):
    """A running instance."""
    number = api.rent(label="x")
    control.advance(60)
    return number


def states(row):
    return [row[key] for key in ("actual_status", "intended_status", "cur_state", "next_state")]


def test_stop_and_start(api, control, number):
    assert api.put(f"/api/v0/instances/{number}/", json={"state": "stopped"}).json() == {"success": True}
    control.advance(10)
    assert states(api.row(number)) == ["exited", "stopped", "stopped", "stopped"]
    assert api.row(number)["ports"] is None
    assert api.put(f"/api/v0/instances/{number}/", json={"state": "running"}).json() == {"success": True}
    control.advance(30)
    assert states(api.row(number)) == ["running"] * 4
    assert control.instance(number).machine.starts == 2


def test_stopped_while_loading_it_never_starts(api, control):
    number = api.rent()
    control.advance(5)
    api.put(f"/api/v0/instances/{number}/", json={"state": "stopped"})
    control.advance(3600)
    assert states(api.row(number)) == ["loading", "stopped", "stopped", "stopped"]
    assert control.instance(number).machine.starts == 0


def test_a_start_that_is_only_queued_fires_later_and_bills(api, control, number):
    control.set(refuse_starts=1)
    api.put(f"/api/v0/instances/{number}/", json={"state": "stopped"})
    control.advance(10)
    answer = api.put(f"/api/v0/instances/{number}/", json={"state": "running"})
    assert (answer.status_code, answer.json()["success"], answer.json()["error"]) == (
        200,
        False,
        "resources_unavailable",
    )
    disk_only = control.billing_now()[0].dollars_per_hour
    control.advance(150)
    assert api.row(number)["actual_status"] == "running"
    assert control.billing_now()[0].dollars_per_hour > disk_only


def test_a_queued_start_is_cancelled_by_a_stop(api, control, number):
    control.set(refuse_starts=1)
    for state in ("stopped", "running", "stopped"):
        api.put(f"/api/v0/instances/{number}/", json={"state": state})
    control.advance(3600)
    assert states(api.row(number)) == ["exited", "stopped", "stopped", "stopped"]


def test_no_start_without_credit(server, api, number):
    api.put(f"/api/v0/instances/{number}/", json={"state": "stopped"})
    server.market.account.credit = 0.0
    answer = api.put(f"/api/v0/instances/{number}/", json={"state": "running"})
    assert (answer.status_code, answer.json()["error"]) == (400, "missing_billing")


def test_label(api, number):
    answer = api.put(f"/api/v0/instances/{number}/", json={"label": "y" * 1024}).json()
    assert answer["msg"] == f"label for {number} set to '{'y' * 1024}'"
    assert api.row(number)["label"] == "y" * 1024
    long = api.put(f"/api/v0/instances/{number}/", json={"label": "y" * 1025})
    assert (long.status_code, long.json()["error"]) == (400, "label_too_long")


def test_reboot_runs_the_container_again(api, control, number):
    assert api.put(f"/api/v0/instances/reboot/{number}/", json={}).json() == {"success": True}
    assert api.row(number)["actual_status"] == "rebooting"
    control.advance(30)
    assert api.row(number)["actual_status"] == "running"
    assert control.instance(number).machine.starts == 2


def test_recycle_wipes_the_disk(api, control, number):
    assert "container" in control.instance(number).machine.output()
    api.put(f"/api/v0/instances/recycle/{number}/", json={})
    assert control.instance(number).machine.output() == ""
    control.advance(30)
    assert api.row(number)["actual_status"] == "running"


def test_bid(api, number):
    assert api.put(f"/api/v0/instances/bid_price/{number}/", json={"client_id": "me", "price": 0.2}).json() == {
        "success": True
    }
    assert api.row(number)["dph_base"] == 0.2
    bad = api.put(f"/api/v0/instances/bid_price/{number}/", json={"client_id": "me", "price": 0})
    assert (bad.status_code, bad.json()["error"]) == (400, "invalid_args")


def test_update_in_place(api, control, number):
    change = {"id": number, "onstart": "echo new", "env": {"A": "b"}}
    assert api.put(f"/api/v0/instances/update_template/{number}/", json=change).json()["success"]
    control.advance(30)
    row = api.row(number)
    assert (row["onstart"], row["extra_env"], row["actual_status"]) == ("echo new", [["A", "b"]], "running")


def test_destroy(api, control, number):
    assert api.request("DELETE", f"/api/v0/instances/{number}/", json={}).json() == {"success": True}
    assert control.billing_now() == []
    assert api.row(number) is not None
    control.advance(7)
    assert api.row(number) is None
    assert api.rows() == []
    again = api.delete(f"/api/v0/instances/{number}/")
    assert (again.status_code, again.json()["error"]) == (404, "no_such_instance")
    assert not control.instance(number).machine.running


def test_what_was_destroyed_can_be_rented_again(api):
    number = api.rent(32493628)
    api.delete(f"/api/v0/instances/{number}/")
    assert api.rent(32493628) != number


def test_destroy_many(api, control):
    numbers = [api.rent() for _ in range(3)]
    answer = api.request("DELETE", "/api/v0/instances/", json={"instance_ids": [*numbers[:2], GONE]})
    assert answer.json() == {"success": True}
    assert [each.id for each in control.billing_now()] == numbers[2:]


def test_stop_many(api, control):
    numbers = [api.rent() for _ in range(2)]
    control.advance(60)
    api.put("/api/v0/instances/", json={"state": "stopped", "ids": numbers})
    control.advance(10)
    assert [row["actual_status"] for row in api.rows()] == ["exited", "exited"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", f"/api/v0/instances/{GONE}/", {"state": "stopped"}),
        ("PUT", f"/api/v0/instances/{GONE}/", {"label": "x"}),
        ("PUT", f"/api/v0/instances/reboot/{GONE}/", {}),
        ("PUT", f"/api/v0/instances/recycle/{GONE}/", {}),
        ("PUT", f"/api/v0/instances/bid_price/{GONE}/", {"client_id": "me", "price": 1}),
        ("DELETE", f"/api/v0/instances/{GONE}/", {}),
        ("POST", f"/api/v0/instances/{GONE}/ssh/", {"ssh_key": "ssh-ed25519 AAAA"}),
        ("GET", f"/api/v0/instances/{GONE}/ssh/", None),
    ],
)
def test_an_instance_that_is_not_there(api, method, path, body):
    answer = api.request(method, path, json=body)
    assert (answer.status_code, answer.json()["error"], answer.json()["success"]) == (404, "no_such_instance", False)


def test_a_state_that_is_none(api, number):
    assert api.put(f"/api/v0/instances/{number}/", json={"state": "dancing"}).status_code == 400


def test_an_address_that_is_none(api):
    answer = api.get("/api/v0/nonsense/")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
