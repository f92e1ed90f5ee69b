"""Reading instances."""

from __future__ import annotations

import base64
import json

import pytest


@pytest.fixture
def many(server, api):
    """60 instances, the ids in order."""
    offers = [each.id for each in server.market.offers if each.fields["gpu_name"] == "RTX 4090"][:60]
    return [api.rent(offer, label=f"l{place % 3}" if place else None) for place, offer in enumerate(offers)]


def test_pages_of_25(api, many):
    seen, token, pages = [], None, 0
    while pages == 0 or token:
        answer = api.get(
            "/api/v1/instances/", params={"limit": 100, **({"after_token": token} if token else {})}
        ).json()
        assert answer["instances_found"] == len(answer["instances"]) <= 25
        assert answer["total_instances"] == 60
        seen += [each["id"] for each in answer["instances"]]
        token, pages = answer["next_token"], pages + 1
    assert (seen, pages) == (many, 3)


def test_the_token_is_the_last_id(api, many):
    answer = api.get("/api/v1/instances/", params={"limit": 7}).json()
    assert json.loads(base64.b64decode(answer["next_token"])) == {"values": {"id": many[6]}}


def test_a_row_that_goes_between_two_pages_hides_no_other(api, control, many):
    token = api.get("/api/v1/instances/", params={"limit": 7}).json()["next_token"]
    control.destroy(many[6])
    control.advance(10)
    assert api.rows(limit=3, after_token=token)[0]["id"] == many[7]


def test_a_limit_of_nothing_is_5(api, many):
    assert len(api.rows(limit=0)) == 5


def test_labels_are_counted(api, many):
    answer = api.get("/api/v1/instances/", params={"limit": 1}).json()
    assert answer["label_counts"] == {"": 1, "l0": 19, "l1": 20, "l2": 20}


def test_filters(api, many):
    assert len(api.rows(select_filters=json.dumps({"label": {"eq": "l1"}}))) == 20
    assert [each["id"] for each in api.rows(select_filters=json.dumps({"id": {"in": many[3:5]}}))] == many[3:5]
    assert api.rows(select_filters=json.dumps({"label": {"eq": "l"}})) == []


def test_order_and_columns(api, many):
    query = {
        "order_by": json.dumps([{"col": "label", "dir": "desc"}]),
        "select_cols": json.dumps(["id", "label", "nonsense"]),
    }
    rows = api.rows(limit=2, **query)
    assert rows == [{"id": many[2], "label": "l2", "nonsense": None}, {"id": many[5], "label": "l2", "nonsense": None}]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"select_filters": '{"dph_total": {"lt": 1}}'}, "invalid_request"),
        ({"select_filters": '{"num_gpus": {"eq": 1}}'}, "invalid_request"),
        ({"select_filters": '{"label": {"like": "l"}}'}, "invalid_request"),
        ({"select_filters": "{"}, "invalid_request"),
        ({"order_by": '[{"col": "nonsense"}]'}, "invalid_request"),
        ({"after_token": "bm9uc2Vuc2U="}, "invalid_token"),
        ({"after_token": "%%"}, "invalid_token"),
    ],
)
def test_what_makes_no_sense(api, many, query, code):
    answer = api.get("/api/v1/instances/", params=query)
    assert (answer.status_code, answer.json()["error"]) == (400, code)


def test_the_old_list_is_gone(api, control):
    answer = api.get("/api/v0/instances/", params={"owner": "me"})
    assert (answer.status_code, answer.json()["error"]) == (410, "deprecated_endpoint")
    control.set(v0_list="200")
    assert api.get("/api/v0/instances").json() == {"instances": []}


def test_an_instance_that_is_not_there(api, control):
    assert api.get("/api/v0/instances/1/").json() == {"instances": None}
    control.set(gone="404")
    answer = api.get("/api/v0/instances/1/")
    assert (answer.status_code, answer.json()["error"]) == (404, "no_such_instance")


def test_the_list_lags_behind(api, control):
    control.set(list_lag_s=8.0)
    number = api.rent(label="x")
    assert api.rows() == []
    assert api.row(number) is None
    assert [each.id for each in control.billing_now()] == [number]
    control.advance(8)
    assert [each["id"] for each in api.rows()] == [number]


def test_the_address_has_a_line_end(api):
    number = api.rent()
    assert api.row(number)["public_ipaddr"].endswith("\n")


def test_contracts_by_label(api, many):
    found = api.post("/api/v0/contracts/fetch/", json={"label": "l2"}).json()["contracts"]
    assert [each["id"] for each in found] == many[2::3]


def test_a_clock_that_is_wrong_shows(server, api):
    server.market.clock.skew_s = 3600.0
    number = api.rent()
    answer = api.get(f"/api/v0/instances/{number}/")
    assert answer.json()["instances"]["start_date"] == 1_795_248_739.0
    assert answer.headers["date"].endswith("GMT")
