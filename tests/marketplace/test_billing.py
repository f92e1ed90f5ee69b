"""What it costs."""

from __future__ import annotations

import json

import pytest


def test_cards_and_disk_by_the_second(api, control, server):
    number = api.rent(32493628)
    control.advance(3600)
    price = api.row(number)
    assert control.spent() == pytest.approx(price["dph_total"])
    assert control.instance(number).bill.amounts()["disk"] == pytest.approx(price["storage_total_cost"])
    assert api.get("/api/v0/users/current").json()["credit"] == pytest.approx(25 - price["dph_total"])


def test_a_stopped_one_bills_its_disk(api, control):
    number = api.rent(32493628)
    control.advance(60)
    api.put(f"/api/v0/instances/{number}/", json={"state": "stopped"})
    control.advance(10)
    before = control.instance(number).bill.amounts()
    control.advance(3600)
    after = control.instance(number).bill.amounts()
    assert after["gpu"] == before["gpu"]
    assert after["disk"] - before["disk"] == pytest.approx(0.2 * 60 / 720)
    assert [each.actual_status for each in control.billing_now()] == ["exited"]


def test_loading_is_billed(api, control):
    control.plan("never_leaves_loading")
    api.rent()
    control.advance(3600)
    assert control.spent() > 0.2


def test_nothing_after_the_end(api, control):
    number = api.rent()
    control.advance(60)
    api.delete(f"/api/v0/instances/{number}/")
    spent = control.spent()
    control.advance(86_400)
    assert control.spent() == spent


def test_a_life_in_one_leap_costs_what_it_costs_in_steps(api, control):
    control.plan("offline_then_back", "offline_then_back")
    offer = 32493628
    first = api.rent(offer)
    control.advance(400)
    api.delete(f"/api/v0/instances/{first}/")
    second = api.rent(offer)
    for _ in range(400):
        control.advance(1)
    first_bill, second_bill = (control.instance(each).bill for each in (first, second))
    assert second_bill.total() == pytest.approx(first_bill.total())
    assert first_bill.total() < api.row(second)["dph_total"] * 400 / 3600


def test_traffic_at_the_price_of_the_host(api, control):
    number = api.rent(32493628)
    control.traffic(number, down_gb=19, up_gb=1)
    assert control.spent() == pytest.approx(20 * 0.002)


def test_charges_come_hours_late(api, control):
    number = api.rent(label="mine")
    control.traffic(number, down_gb=19)
    control.advance(3600)
    query = {"select_filters": json.dumps({"day": {"gte": 0, "lte": 9e9}, "type": {"in": ["instance"]}})}
    assert api.get("/api/v0/charges/", params=query).json()["results"] == []
    control.advance(6 * 3600)
    [charge] = api.get("/api/v0/charges/", params=query).json()["results"]
    assert (charge["source"], charge["metadata"]) == (f"instance-{number}", {"label": "mine"})
    assert charge["amount"] == pytest.approx(sum(each["amount"] for each in charge["items"]), abs=0.002)
    assert charge["amount"] < control.spent() / 3
    assert {each["type"] for each in charge["items"]} >= {"gpu", "disk"}


def test_charges_want_a_range_of_days(api):
    answer = api.get("/api/v0/charges/", params={"select_filters": "{}"})
    assert (answer.status_code, answer.json()["success"]) == (400, False)


def test_invoices_and_deposit(api):
    number = api.rent()
    when = {"select_filters": json.dumps({"when": {"gte": 0, "lte": 9e9}})}
    assert api.get("/api/v1/invoices/", params=when).json()["results"] == []
    assert api.get("/api/v1/invoices/").json()["error"] == "Invalid date range"
    assert api.get(f"/api/v0/instances/balance/{number}/").json()["refundable_deposit"] == 0.0
