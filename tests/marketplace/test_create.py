"""Renting an offer."""

from __future__ import annotations

import pytest

OFFER = 32493628
# Every key is there, null when unset, as the vendor's package sends it (vast facts §1.5).
BODY = {
    "client_id": "me",
    "image": "vastai/base-image:cuda-12.8",
    "env": {"LLMHOST_CLAIM": "1a2b3c4d5e6f", "-p 8000:8000": "1"},
    "price": None,
    "disk": 60.0,
    "label": "llmhost/1/dev/1a2b3c4d5e6f/1",
    "extra": None,
    "onstart": "echo hello",
    "image_login": None,
    "python_utf8": False,
    "lang_utf8": False,
    "use_jupyter_lab": False,
    "jupyter_dir": None,
    "force": False,
    "cancel_unavail": True,
    "template_hash_id": None,
    "user": None,
    "runtype": "ssh_direc ssh_proxy",
}


def create(api, offer=OFFER, **changes):
    return api.put(f"/api/v0/asks/{offer}/", json=BODY | changes)


def test_a_rental(api):
    answer = create(api).json()
    assert answer["success"] is True
    assert answer["new_contract"] == 33402296
    assert len(answer["instance_api_key"]) == 64
    row = api.row(answer["new_contract"])
    assert (row["label"], row["machine_id"], row["disk_space"]) == ("llmhost/1/dev/1a2b3c4d5e6f/1", 43973, 60.0)
    assert row["extra_env"] == [["LLMHOST_CLAIM", "1a2b3c4d5e6f"], ["-p 8000:8000", "1"]]
    assert row["image_runtype"] == "ssh ssh_direc ssh_proxy"
    assert (row["actual_status"], row["intended_status"], row["ports"]) == (None, "running", None)
    assert round(row["dph_total"], 4) == 0.3634


def test_the_second_comes_too_late(api):
    create(api)
    late = create(api)
    assert (late.status_code, late.json()["error"]) == (410, "no_such_ask")
    assert late.json()["msg"].startswith("error 410/3907: no_such_ask")
    assert late.json()["ask_id"] == OFFER


def test_an_offer_that_can_be_rented_twice(server, api):
    server.market.offers[OFFER].capacity = 2
    assert create(api).json()["new_contract"] != create(api).json()["new_contract"]


@pytest.mark.parametrize("offer", [1, OFFER])
def test_no_such_offer(api, control, offer):
    control.take(OFFER)
    answer = create(api, offer)
    assert (answer.status_code, answer.json()["error"]) == (404, "invalid_args")
    assert "error 404/3603: no_such_ask" in answer.json()["msg"]


BAD = (
    {"image": None},
    {"image": "x" * 1025},
    {"label": "x" * 257},
    {"disk": 7.9},
    {"disk": "60"},
    {"runtype": "telnet"},
    {"env": [1]},
)


@pytest.mark.parametrize("bad", BAD)
def test_bad_arguments_rent_nothing(api, control, bad):
    answer = create(api, **bad)
    assert (answer.status_code, answer.json()["error"], answer.json()["success"]) == (400, "invalid_args", False)
    assert control.billing_now() == []


@pytest.mark.parametrize("runtype", ["ssh", "ssh_proxy", "ssh_direct", "ssh_direc ssh_proxy", None])
def test_runtypes(api, runtype):
    number = create(api, runtype=runtype).json()["new_contract"]
    assert ("ssh_direc" in api.row(number)["image_runtype"]) == ("direc" in (runtype or ""))


def test_a_string_for_the_environment_is_taken_and_not_applied(api):
    assert api.row(create(api, env="-e A=b").json()["new_contract"])["extra_env"] == []


def test_a_too_long_onstart_is_taken_and_never_starts(api, control):
    number = create(api, onstart="#" * 4049).json()["new_contract"]
    control.advance(3600)
    assert api.row(number)["actual_status"] == "created"
    assert [each.id for each in control.billing_now()] == [number]


def test_4048_bytes_start(api, control):
    number = create(api, onstart="#" * 4048).json()["new_contract"]
    control.advance(60)
    assert api.row(number)["actual_status"] == "running"


def test_a_bid_below_the_least_creates_a_stopped_instance_all_the_same(api, control):
    answer = create(api, price=0.01)
    assert (answer.status_code, answer.json()["success"], answer.json()["error"]) == (400, False, "invalid_price")
    row = api.row(answer.json()["new_contract"])
    assert [row[key] for key in ("actual_status", "intended_status", "cur_state", "next_state")] == ["stopped"] * 4
    [cost] = control.billing_now()
    assert cost.dollars_per_hour == pytest.approx(0.2 * 60 / 720)


@pytest.mark.parametrize("price", [0.0, 129.0, "cheap"])
def test_prices_that_are_none(api, price):
    assert create(api, price=price).json()["error"] == "invalid_price"


def test_a_bid_that_wins(api, control):
    number = create(api, price=0.25).json()["new_contract"]
    control.advance(60)
    row = api.row(number)
    assert (row["actual_status"], row["is_bid"], row["dph_base"]) == ("running", True, 0.25)


def test_a_machine_that_cannot_start_now(server, api, control):
    server.market.offers[OFFER].starts = False
    assert create(api).status_code == 410
    assert control.billing_now() == []
    number = create(api, cancel_unavail=False).json()["new_contract"]
    assert api.row(number)["actual_status"] == "stopped"


def test_no_credit(server, api, control):
    server.market.account.credit = 0.0
    assert create(api).json()["error"] == "insufficient_credit"
    assert control.billing_now() == []


def test_a_new_account_may_not_spend_much(server, api):
    server.market.account.spend_limit_per_hour = 0.5
    assert create(api).status_code == 200
    other = next(each.id for each in server.market.offers if each.rentable)
    assert create(api, other).json()["error"] == "spend_rate_limit"


def test_hosts_rent_their_own_machines_only(server, api):
    server.market.account.host_ids.add(307092)
    answer = create(api)
    assert (answer.status_code, answer.json()["error"]) == (403, "invalid_args")


def test_a_vm_needs_a_key(api):
    assert create(api, vm=True).json()["error"] == "no_ssh_key_for_vm"


@pytest.mark.parametrize("path", [f"/api/v0/asks/{OFFER}", f"//api/v0/asks/{OFFER}/"])
def test_slashes(server, api, path):
    assert api.put(server.url + path, json=BODY).status_code == 200
