"""Searching offers."""

from __future__ import annotations

import pytest

from tests.marketplace.conftest import START, Api

CARD = {"gpu_name": {"eq": "RTX 4090"}, "num_gpus": {"eq": 1}}


def test_the_example_of_the_facts_is_on_offer(api):
    [offer] = api.offers(id={"eq": 32493628}, allocated_storage=60)
    assert (offer["machine_id"], offer["gpu_name"], offer["gpu_ram"], offer["geolocation"]) == (
        43973,
        "RTX 4090",
        24564,
        "Sweden, SE",
    )
    assert offer["dph_base"] == 0.3467
    assert round(offer["dph_total"], 4) == 0.3634
    assert offer["end_date"] == START + offer["duration"]


def test_the_price_includes_the_storage_that_was_asked_for(api):
    small, large = (api.offers(id={"eq": 32493628}, allocated_storage=size)[0] for size in (10, 500))
    assert small["storage_total_cost"] == pytest.approx(small["storage_cost"] * 10 / 720)
    assert large["dph_total"] - small["dph_total"] == pytest.approx(small["storage_cost"] * 490 / 720)
    assert large["search"]["totalHour"] == large["dph_total"]


def test_a_search_without_storage_has_the_price_of_8_gb(api):
    [offer] = api.offers(id={"eq": 32493628})
    assert offer["storage_total_cost"] == pytest.approx(offer["storage_cost"] * 8 / 720)


@pytest.mark.parametrize("value", [0.98, "0.98"])
def test_numbers_may_come_as_strings(api, value):
    found = api.offers(reliability={"gte": value}, **CARD)
    assert found
    assert all(each["reliability"] >= 0.98 for each in found)


def test_only_verified_and_free_machines_unless_asked_for_others(api):
    assert {each["verification"] for each in api.offers(**CARD)} == {"verified"}
    assert {each["verification"] for each in api.offers(**CARD, verified={"eq": False})} == {"unverified"}


def test_at_most_64_whatever_the_limit(api):
    page = api.offers(gpu_name={"eq": "RTX 4090"}, limit=3000, order=[["dph_total", "asc"]])
    assert len(page) == 64
    rest = api.offers(
        gpu_name={"eq": "RTX 4090"}, dph_total={"gt": page[-1]["dph_total"]}, order=[["dph_total", "asc"]]
    )
    assert rest
    assert not {each["id"] for each in page} & {each["id"] for each in rest}


def test_order(api):
    prices = [each["dph_total"] for each in api.offers(order=[["dph_total", "asc"]], **CARD)]
    assert prices == sorted(prices)
    names = [each["gpu_name"] for each in api.offers(order=[["gpu_name", "desc"], ["dph_total", "asc"]])]
    assert names == sorted(names, reverse=True)


def test_the_usual_order_is_the_score(api):
    scores = [each["score"] for each in api.offers(**CARD)]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("filters", "right"),
    [
        ({"gpu_name": {"in": ["H100 SXM", "H100_PCIE"]}}, lambda o: o["gpu_name"] in ("H100 SXM", "H100 PCIE")),
        ({"gpu_name": {"notin": ["RTX 4090"]}}, lambda o: o["gpu_name"] != "RTX 4090"),
        ({"geolocation": {"in": ["SE", "NO"]}}, lambda o: o["geolocation"][-2:] in ("SE", "NO")),
        ({"datacenter": {"eq": True}}, lambda o: o["hosting_type"] == 1),
        ({"external": {"eq": False}}, lambda o: not o["external"]),
        ({"static_ip": {"eq": True}}, lambda o: o["static_ip"]),
        ({"cpu_ram": {"gte": 32000}}, lambda o: o["cpu_ram"] >= 32000),
        ({"machine_id": {"neq": 43973}}, lambda o: o["machine_id"] != 43973),
        ({"duration": {"gt": 86400}}, lambda o: o["duration"] > 86400),
        ({"inet_down": {"lt": 500}}, lambda o: o["inet_down"] < 500),
    ],
)
def test_filters(api, filters, right):
    found = api.offers(**filters)
    assert found
    assert all(right(each) for each in found)


def test_there_is_an_h100_of_each_kind(api):
    assert {each["gpu_name"] for each in api.offers(gpu_ram={"gte": 80000})} >= {
        "H100 SXM",
        "H100 PCIE",
        "H100 NVL",
        "H200",
    }


def test_bids_are_cheaper(api):
    fixed, bid = (api.offers(id={"eq": 32493628}, type=kind)[0] for kind in ("on-demand", "bid"))
    assert (fixed["is_bid"], bid["is_bid"]) == (False, True)
    assert bid["dph_base"] == fixed["min_bid"] < fixed["dph_base"]


@pytest.mark.parametrize("kind", ["on-demand", "ondemand"])
def test_both_spellings_of_the_type(api, kind):
    assert api.offers(type=kind)


@pytest.mark.parametrize(
    "wish", [{"nonsense": {"eq": 1}}, {"dph_total": {"like": 1}}, {"order": [["nonsense", "asc"]]}]
)
def test_a_search_that_makes_no_sense(api, wish):
    answer = api.post("/api/v0/bundles/", json=wish)
    assert answer.status_code == 400
    assert answer.json()["error"] == "invalid_request"
    assert "is not a valid search key" in answer.json()["msg"]


def test_the_content_type_must_be_exact(api):
    answer = api.post("/api/v0/bundles/", content=b"{}", headers={"Content-Type": "application/json; charset=utf-8"})
    assert answer.status_code == 400


def test_a_body_that_is_no_object(api):
    answer = api.post("/api/v0/bundles/", content=b"[1", headers={"Content-Type": "application/json"})
    assert answer.json()["msg"] == "Invalid json body"


def test_searching_needs_no_key(server):
    with Api(server, key="") as nobody:
        assert nobody.offers()


def test_what_is_rented_is_no_longer_found(api):
    api.rent(32493628)
    assert api.offers(id={"eq": 32493628}) == []
    [offer] = api.offers(id={"eq": 32493628}, rented={"eq": True}, rentable={"eq": False})
    assert offer["rented"]


def test_filters_may_be_deaf(server, api):
    server.market.deaf_to.add("reliability")
    assert min(each["reliability"] for each in api.offers(reliability={"gte": 0.99}, **CARD)) < 0.99
