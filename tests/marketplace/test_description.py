"""The marketplace against the vendor's own description; collected only when `LLMHOST_VAST_OPENAPI` names its folder.

With it every other test here checks its calls against the description too (the `server` fixture). This one adds that every call
described is served, with every field described, and that what is known to differ really does.
"""

from __future__ import annotations

import json

import pytest
import yaml

from tests.marketplace.conftest import DESCRIPTION
from tests.marketplace.description import KNOWN, why
from tests.marketplace.test_create import BODY
from tests.support.marketplace.routes import route_of

DAYS = {"select_filters": json.dumps({"day": {"gte": 0, "lte": 9e9}, "type": {"in": ["instance"]}})}
# Fields that may be left out of an answer by the description's own words, or belong to another kind of answer.
OPTIONAL = {"msg", "template_id", "endpoint_id", "workergroup_id"}


@pytest.fixture
def tour(server, api, control):
    """Every call that the description has, and the refusals that we know to word otherwise."""
    api.post("/api/v0/ssh/", json={"ssh_key": "ssh-ed25519 AAAA renter@example.test"})
    api.offers(limit=3, order=[["dph_total", "asc"]], type="on-demand")
    number = api.put("/api/v0/asks/32493628/", json=BODY).json()["new_contract"]
    api.row(number)
    control.advance(60)
    for path in (f"instances/{number}/", f"instances/{number}/ssh/", "ssh/", "users/current/"):
        api.get(f"/api/v0/{path}")
    api.get("/api/v1/instances/")
    api.post(f"/api/v0/instances/{number}/ssh/", json={"ssh_key": "ssh-ed25519 BBBB renter@example.test"})
    for command, body in (
        ("request_logs", {"tail": "100"}),
        ("command", {"command": "ls -l"}),
        ("reboot", {}),
        ("recycle", {}),
    ):
        api.put(f"/api/v0/instances/{command}/{number}/", json=body)
    api.put(f"/api/v0/instances/bid_price/{number}/", json={"client_id": "me", "price": 0.3})
    for body in ({"state": "stopped"}, {"state": "running"}, {"label": "x"}):
        api.put(f"/api/v0/instances/{number}/", json=body)
    control.advance(10 * 3600)
    api.get("/api/v0/charges/", params=DAYS)
    api.get("/api/v1/invoices/", params={"select_filters": json.dumps({"when": {"gte": 0}})})
    api.delete(f"/api/v0/instances/{number}/")
    control.advance(60)
    api.row(number)
    server.market.account.credit = 0.0
    api.put("/api/v0/asks/32493635/", json=BODY)
    api.headers["Authorization"] = "Bearer nonsense"
    api.delete(f"/api/v0/instances/{number}/")
    api.put("/api/v0/asks/32493635/", json=BODY)
    api.put(f"/api/v0/instances/reboot/{number}/", json={})
    server.market.limits.on = True
    for _ in range(11):
        api.post("/api/v0/bundles/", json={"limit": 1})
    return server.market.exchanges


def test_everything_described_is_served(tour):
    served = {
        (each.method, operation.path) for each in tour if each.status == 200 for operation in DESCRIPTION.of(each)
    }
    assert {(each.method, each.path) for each in DESCRIPTION.operations} <= served


def test_what_differs_is_known_and_what_is_known_differs(tour):
    findings = [text for exchange in tour for text in DESCRIPTION.differences(exchange)]
    assert [text for text in findings if why(text) is None] == []
    assert {why(text) for text in findings} == {reason for _, reason in KNOWN}


def missing_fields(schema, value, where="$"):
    """Described fields that an answer does not have."""
    if isinstance(value, list):
        return {text for each in value[:1] for text in missing_fields(schema.get("items", {}), each, where + "[]")}
    if not isinstance(value, dict):
        return set()
    found = set()
    for name, inner in schema.get("properties", {}).items():
        if name not in value:
            found |= set() if name in OPTIONAL else {f"{where}.{name}"}
        else:
            found |= missing_fields(inner, value[name], f"{where}.{name}")
    return found


ROUTES = [
    "create",
    "list",
    "show",
    "user",
    "ssh_keys",
    "ssh_key_create",
    "attached",
    "attach",
    "charges",
    "invoices",
    "logs",
    "command",
    "manage",
    "destroy",
    "bid",
]


@pytest.mark.parametrize("route", ROUTES)
def test_every_field_described_is_there(tour, route):
    exchange = next(each for each in tour if each.route == route and each.status == 200)
    operation = DESCRIPTION.of(exchange)[0]
    assert missing_fields(operation.answers["200"], exchange.answered) == set()


def test_an_offer_has_every_field_of_the_example(tour, vendor_folder):
    document = yaml.safe_load((vendor_folder / "search_offers.yaml").read_text())
    content = document["paths"]["/api/v0/bundles/"]["post"]["responses"]["200"]["content"]["application/json"]
    example = content["example"]["offers"]
    offer = next(each for each in tour if each.route == "search").answered["offers"][0]
    assert set(example) - set(offer) == set()
    assert {
        key for key in example if _kind(example[key]) and _kind(offer[key]) and _kind(offer[key]) != _kind(example[key])
    } == set()


def _kind(value):
    """Numbers are one kind; null says nothing."""
    return (
        None
        if value is None
        else "number"
        if isinstance(value, int | float) and not isinstance(value, bool)
        else type(value).__name__
    )


def test_every_column_of_a_search_can_be_asked_for(tour, api):
    [operation] = [each for each in DESCRIPTION.operations if each.path == "/api/v0/bundles/"]
    columns = [name for name, schema in operation.request["properties"].items() if schema.get("type") == "object"]
    api.server.market.limits.on = False
    refused = [name for name in columns if api.post("/api/v0/bundles/", json={name: {"neq": 0}}).status_code != 200]
    assert refused == []


def test_every_path_of_the_description_is_a_route():
    for operation in DESCRIPTION.operations:
        path = operation.path.replace("{id}", "1").replace("{instance_id}", "1")
        assert route_of(operation.method, path), operation.path
