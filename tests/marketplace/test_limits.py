"""How often calls may be made."""

from __future__ import annotations

import pytest

from tests.marketplace.conftest import START, Api
from tests.support.marketplace.clock import Clock
from tests.support.marketplace.limits import THRESHOLDS
from tests.support.marketplace.market import Market
from tests.support.marketplace.server import MarketServer


@pytest.fixture
def limits(server):
    server.market.limits.on = True
    return server.market.limits


def test_they_are_on_unless_told_otherwise():
    assert Market(clock=Clock(START, scale=0)).limits.on


@pytest.mark.parametrize(
    ("name", "method", "path", "body", "seconds"),
    [
        ("list", "GET", "/api/v1/instances/", None, 1.0),
        ("show", "GET", "/api/v0/instances/5/", None, 2.0),
        ("manage", "PUT", "/api/v0/instances/5/", {"label": "x"}, 1.0),
        ("reboot", "PUT", "/api/v0/instances/reboot/5/", {}, 1.0),
        ("bid", "PUT", "/api/v0/instances/bid_price/5/", {"client_id": "me", "price": 1}, 5.5),
        ("command", "PUT", "/api/v0/instances/command/5/", {"command": "ls"}, 1.5),
        ("charges", "GET", "/api/v0/charges/", None, 1.0),
        ("ssh_key_create", "POST", "/api/v0/ssh/", {}, 1.0),
        ("create", "PUT", "/api/v0/asks/5/", {}, 4.5),
        ("destroy", "DELETE", "/api/v0/instances/5/", {}, 3.0),
    ],
)
def test_thresholds(api, control, limits, name, method, path, body, seconds):
    def status():
        return api.request(method, path, json=body).status_code

    assert THRESHOLDS[name] == seconds
    assert status() != 429
    control.advance(seconds - 0.1)
    early = api.request(method, path, json=body)
    assert early.status_code == 429
    assert f"endpoint threshold={seconds}" in early.text
    assert "retry-after" not in early.headers
    control.advance(13)
    assert status() != 429


def test_the_penalty_of_a_create(api, control, limits):
    def status():
        return api.put("/api/v0/asks/5/", json={"image": "x"}).status_code

    assert [status(), status()] == [404, 429]
    control.advance(11.9)
    assert status() == 429
    control.advance(12)
    assert status() == 404


def test_by_endpoint_and_by_key(server, api, limits):
    scoped = server.market.keys.scoped({"api": {"instance_read": {}}})
    assert [api.get(path).status_code for path in ("/api/v1/instances/", "/api/v0/instances/5/")] == [200, 200]
    with Api(server, scoped.secret) as other:
        assert other.get("/api/v1/instances/").status_code == 200
    assert api.get("/api/v1/instances/").status_code == 429


def test_ten_searches_a_minute(api, control, limits):
    statuses = [api.post("/api/v0/bundles/", json={"limit": 1}).status_code for _ in range(11)]
    assert statuses == [200] * 10 + [429]
    control.advance(60)
    assert api.post("/api/v0/bundles/", json={"limit": 1}).status_code == 200


def test_the_quota_of_a_day(api, control, limits):
    limits.searches_per_day = 1
    assert api.post("/api/v0/bundles/", json={}).status_code == 200
    answer = api.post("/api/v0/bundles/", json={})
    assert (answer.status_code, answer.json()["error"]) == (429, "search_quota_exceeded")
    reset = int(answer.headers["x-ratelimit-reset"])
    assert reset % 86_400 == 0
    assert 0 < reset - START <= 86_400
    control.advance(reset - START)
    assert api.post("/api/v0/bundles/", json={}).status_code == 200


def test_retry_after_when_wanted(api, limits):
    limits.retry_after, limits.shape = True, "error"
    api.get("/api/v0/instances/5/")
    answer = api.get("/api/v0/instances/5/")
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["error"] == "rate_limit_exceeded"


def test_the_factor(api, control, limits):
    limits.factor = 0.1
    api.get("/api/v1/instances/")
    control.advance(0.2)
    assert api.get("/api/v1/instances/").status_code == 200


def test_what_is_refused_changes_nothing(api, control, limits):
    assert api.rent(32493628)
    assert api.put("/api/v0/asks/32493635/", json={"image": "x"}).status_code == 429
    assert len(control.billing_now()) == 1
    assert [each.limited for each in control.requests("create")] == [False, True]


def test_in_real_time():
    market = Market()
    with MarketServer(market) as server, Api(server) as api:
        assert [api.get("/api/v0/instances/5/").status_code for _ in range(2)] == [200, 429]
