"""Who may do what."""

from __future__ import annotations

import pytest

from tests.marketplace.conftest import Api
from tests.marketplace.test_create import BODY

# The scope that vast facts §4.6 recommends.
RECOMMENDED = {"api": {"misc": {}, "user_read": {}, "instance_read": {}, "instance_write": {}, "billing_read": {}}}


def told(answer):
    return answer.status_code, answer.json()["error"], answer.json()["msg"]


def test_without_a_header(server):
    with Api(server, key="") as nobody:
        assert told(nobody.get("/api/v1/instances/")) == (403, "auth_error", "This action requires login.")


def test_with_a_wrong_key(server):
    with Api(server, key="nonsense") as stranger:
        assert told(stranger.get("/api/v1/instances/")) == (404, "auth_error", "Invalid user key")
        server.control.set(bad_key=401)
        assert told(stranger.get("/api/v1/instances/"))[0] == 401
        assert stranger.put("/api/v0/asks/32493628/", json=BODY).status_code == 401
    assert server.control.billing_now() == []


def test_another_kind_of_login(server):
    with Api(server) as api:
        api.headers["Authorization"] = f"Basic {server.key}"
        assert told(api.get("/api/v1/instances/"))[:2] == (404, "auth_error")


def test_a_key_that_may_only_look(server, api):
    number = api.rent()
    answer = api.post(
        "/api/v0/auth/apikeys/", json={"name": "look", "permissions": {"api": {"instance_read": {}}}}
    ).json()
    with Api(server, answer["key"]) as looker:
        assert looker.row(number)["id"] == number
        assert told(looker.put("/api/v0/asks/32493635/", json=BODY)) == (
            401,
            "auth_error",
            "Your key lacks the instance_write permission group",
        )
        assert told(looker.get("/api/v0/users/current/"))[2] == "Your key lacks the user_read permission group"
        assert looker.delete(f"/api/v0/instances/{number}/").status_code == 401
    assert [each.id for each in server.control.billing_now()] == [number]


def test_the_recommended_key(server):
    key = server.market.keys.scoped(RECOMMENDED)
    with Api(server, key.secret) as api:
        number = api.rent(api.offers()[0]["id"])
        assert api.row(number)["id"] == number
        assert api.get("/api/v0/users/current/").status_code == 200
        assert api.get("/api/v0/ssh/").status_code == 200
        assert api.post("/api/v0/ssh/", json={"ssh_key": "ssh-ed25519 AAAA"}).status_code == 401
        assert api.delete(f"/api/v0/instances/{number}/").status_code == 200


@pytest.fixture
def inside(server, api):
    """The id of an instance, and calls with the key that it finds in its environment."""
    number = api.rent()
    with Api(server, server.control.instance(number).key) as container:
        yield number, container


def test_a_container_reads_stops_and_destroys_itself(server, inside):
    number, container = inside
    assert container.row(number)["id"] == number
    assert container.put(f"/api/v0/instances/{number}/", json={"state": "stopped"}).status_code == 200
    assert container.request("DELETE", f"/api/v0/instances/{number}/", json={}).json() == {"success": True}
    assert server.control.billing_now() == []
    assert container.get(f"/api/v0/instances/{number}/").status_code == 404


def test_a_container_does_nothing_else(server, api, inside):
    number, container = inside
    other = api.rent()
    for method in ("GET", "PUT", "DELETE"):
        status, code, msg = told(container.request(method, f"/api/v0/instances/{other}/"))
        assert (status, code) == (401, "auth_error")
        assert "due to a constraint on id" in msg
    assert told(container.get("/api/v0/users/current/"))[2] == "Your key lacks the user_read permission group"
    assert container.put("/api/v0/asks/32493700/", json=BODY).status_code == 401
    assert container.get("/api/v1/instances/").status_code == 401
    assert container.request("DELETE", "/api/v0/instances/", json={"instance_ids": [other]}).status_code == 401
    assert {each.id for each in server.control.billing_now()} == {number, other}


def test_no_key_is_recorded_by_itself(server, api):
    api.rows()
    [exchange] = server.control.requests("list")
    assert exchange.identity == "account"
    assert server.key not in str(exchange.as_dict())
