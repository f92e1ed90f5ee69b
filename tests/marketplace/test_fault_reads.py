"""Reads and destroys that go wrong."""

from __future__ import annotations

import httpx
import pytest


def test_an_instance_that_is_shown_as_gone(api, control):
    number = api.rent()
    control.fault("no_instance", "GET", rf"/instances/{number}/")
    assert api.row(number) is None
    assert api.row(number)["id"] == number


@pytest.mark.parametrize(
    "fields", [{"start_date": None}, {"extra_env": None}, {"extra_env": {"A": "b"}}, {"public_ipaddr": None}]
)
def test_odd_fields(api, control, fields):
    number = api.rent()
    control.fault("fields_set", "GET", "/instances", count=2, **fields)
    assert fields.items() <= api.row(number).items()
    assert fields.items() <= api.rows()[0].items()
    assert not fields.items() <= api.row(number).items()


def pages(api):
    """The ids of all pages."""
    seen, token = [], None
    while True:
        answer = api.get("/api/v1/instances/", params={"limit": 2, **({"after_token": token} if token else {})})
        if answer.status_code != 200:
            return answer.status_code
        seen += [each["id"] for each in answer.json()["instances"]]
        token = answer.json()["next_token"]
        if not token:
            return seen


def test_page_two_fails(api, control):
    numbers = [api.rent() for _ in range(5)]
    control.fault("server_error", "GET", r"/api/v1/instances/\?.*after_token", status=502)
    assert pages(api) == 502
    assert pages(api) == numbers


def test_rows_come_twice(api, control):
    numbers = [api.rent() for _ in range(5)]
    control.fault("duplicated", "GET", "/api/v1/instances", count=-1)
    seen = pages(api)
    assert set(seen) == set(numbers)
    assert len(seen) > 5


def test_pages_and_rows_are_lost(api, control):
    numbers = [api.rent() for _ in range(5)]
    control.fault("pages_lost", "GET", "/api/v1/instances")
    assert pages(api) == numbers[:2]
    control.fault("rows_lost", "GET", "/api/v1/instances")
    assert [each["id"] for each in api.rows()] == numbers[::2]


def test_a_clean_and_empty_list(api, control):
    api.rent()
    control.fault("empty_list", "GET", "/api/v1/instances")
    answer = api.get("/api/v1/instances/").json()
    assert (answer["success"], answer["instances"], answer["next_token"]) == (True, [], None)


def test_a_destroy_that_lies(api, control):
    number = api.rent()
    control.fault("pretend", "DELETE")
    assert api.delete(f"/api/v0/instances/{number}/").json() == {"success": True}
    assert [each.id for each in control.billing_now()] == [number]


def test_a_destroy_that_fails_and_then_works(api, control):
    number = api.rent()
    control.fault("server_error", "DELETE", status=500)
    assert [api.delete(f"/api/v0/instances/{number}/").status_code for _ in range(2)] == [500, 200]
    assert control.billing_now() == []


def test_a_destroy_that_worked_and_was_not_heard(api, control):
    number = api.rent()
    control.fault("dropped", "DELETE", after=True)
    with pytest.raises(httpx.RemoteProtocolError):
        api.delete(f"/api/v0/instances/{number}/")
    assert control.billing_now() == []
