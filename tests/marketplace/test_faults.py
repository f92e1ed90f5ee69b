"""What can go wrong with a call, before and after it was carried out."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.marketplace.conftest import Api
from tests.marketplace.test_create import BODY
from tests.support.marketplace.fault_kinds import CHANGES, INSTEAD
from tests.support.system import wait_until

ASK = "/api/v0/asks/32493628/"


def create(api):
    """Status and body of a create, or the name of what the client saw instead."""
    try:
        answer = api.put(ASK, json=BODY)
        return answer.status_code, answer.json()
    except (httpx.HTTPError, ValueError) as problem:
        return type(problem).__name__, None


SHAPES = [
    ("rate_limited", {"shape": "text"}, 429),
    ("rate_limited", {"shape": "detail", "retry_after": 2}, 429),
    ("rate_limited", {"shape": "error", "retry_after": 300}, 429),
    ("rate_limited", {"shape": "quota"}, 429),
    ("server_error", {"status": 500, "shape": "json"}, 500),
    ("server_error", {"status": 502}, 502),
    ("server_error", {"status": 503}, 503),
    ("server_error", {"status": 504, "shape": "text"}, 504),
    ("auth", {"status": 401}, 401),
    ("auth", {"status": 403}, 403),
    ("auth", {"status": 404}, 404),
    ("auth", {"status": 1401}, 401),
    ("html_200", {}, 200),
    ("empty_200", {}, 200),
    ("redirect", {"to": "/elsewhere"}, 302),
    ("unsuccessful", {}, 200),
    ("pretend", {}, 200),
    ("truncated", {}, 200),
]


@pytest.mark.parametrize(("kind", "options", "status"), SHAPES, ids=str)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_answer_in_the_place_of_the_real_one(api, control, kind, options, status, after):
    fault = control.fault(kind, "PUT", "/asks/", after=after, **options)
    answer = api.put(ASK, json=BODY)
    assert answer.status_code == status
    assert "new_contract" not in answer.text or kind == "truncated"
    assert len(control.billing_now()) == int(after)
    assert fault.spent
    assert api.put("/api/v0/asks/32493635/", json=BODY).status_code == 200


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_dropped_connection(api, control, after):
    control.fault("dropped", "PUT", "/asks/", after=after)
    assert create(api) == ("RemoteProtocolError", None)
    assert len(control.billing_now()) == int(after)


def test_a_body_that_ends_too_early(api, control):
    control.fault("truncated", "PUT", "/asks/", after=True, announced=True)
    assert create(api) == ("RemoteProtocolError", None)
    assert len(control.billing_now()) == 1


def test_a_body_that_is_half(api, control):
    control.fault("truncated", "PUT", "/asks/", after=True)
    assert create(api) == ("JSONDecodeError", None)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_slow_beyond_the_clients_patience(server, api, control, after):
    control.fault("slow", "PUT", "/asks/", after=after, seconds=0.6)
    started = time.monotonic()
    with Api(server) as hasty:
        hasty.timeout = 0.2
        assert create(hasty) == ("ReadTimeout", None)
    assert bool(control.billing_now()) == after or time.monotonic() - started > 0.5
    wait_until(control.billing_now, "the create that nobody waited for", 20)


def test_slow_and_in_time(api, control):
    control.fault("slow", "PUT", "/asks/", seconds=0.05)
    assert create(api)[0] == 200


def test_429_shapes(api, control):
    for shape in ("text", "detail", "error"):
        control.fault("rate_limited", shape=shape, retry_after=300)
    text, detail, error = (api.get("/api/v1/instances/") for _ in range(3))
    assert text.text.startswith("API requests too frequent")
    assert detail.json()["detail"] == "API requests too frequent endpoint threshold=4.5"
    assert error.json()["error"] == "rate_limit_exceeded"
    assert [each.headers["retry-after"] for each in (text, detail, error)] == ["300"] * 3


def test_success_without_an_id(api, control):
    control.fault("no_id", "PUT", "/asks/")
    status, answer = create(api)
    assert (status, answer["success"], "new_contract" in answer) == (200, True, False)
    assert len(control.billing_now()) == 1


def test_an_id_that_is_text(api, control):
    control.fault("id_as_text", "PUT", "/asks/")
    assert create(api)[1]["new_contract"] == str(control.billing_now()[0].id)


@pytest.mark.parametrize("status", [400, 403, 200])
def test_a_refusal_that_carries_a_contract(api, control, status):
    control.fault("refused_with_contract", "PUT", "/asks/", status=status)
    got, answer = create(api)
    assert (got, answer["success"]) == (status, False)
    assert [each.id for each in control.billing_now()] == [answer["new_contract"]]


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("no_such_ask", 0, 410),
        ("no_such_ask", 400, 400),
        ("invalid_args", 0, 404),
        ("insufficient_credit", 0, 400),
        ("spend_rate_limit", 0, 400),
        ("server_error", 0, 400),
        ("resources_unavailable", 0, 200),
    ],
)
def test_refusals_by_their_code(api, control, code, status, expected):
    control.fault("refuse", "PUT", "/asks/", code=code, status=status)
    got, answer = create(api)
    assert (got, answer["error"], answer["success"]) == (expected, code, False)
    assert control.billing_now() == []


def test_no_such_ask_although_it_was_rented(api, control):
    control.fault("refuse", "PUT", "/asks/", after=True, code="no_such_ask")
    assert create(api)[0] == 410
    assert len(control.billing_now()) == 1


def test_the_label_is_lost(api, control):
    control.fault("label_lost", "PUT", "/asks/")
    row = api.row(create(api)[1]["new_contract"])
    assert (row["label"], row["extra_env"][0]) == (None, ["LLMHOST_CLAIM", "1a2b3c4d5e6f"])


def test_rules_count_skip_and_are_listed(api, control):
    fault = control.fault("server_error", "GET", "users", count=2, skip=1)
    assert [api.get("/api/v0/users/current/").status_code for _ in range(4)] == [200, 500, 500, 200]
    assert (fault.hits, control.market.faults.unspent()) == (2, [])
    control.fault("server_error", "GET", "nothing")
    assert len(control.market.faults.unspent()) == 1


def test_faults_are_recorded_with_the_call(api, control):
    control.fault("dropped", "GET")
    with pytest.raises(httpx.RemoteProtocolError):
        api.get("/api/v0/users/current/")
    [exchange] = control.requests("user")
    assert (exchange.fault, exchange.status) == ("dropped", 0)


def test_every_kind_is_tested_here():
    text = "".join(each.read_text() for each in Path(__file__).parent.glob("test_fault*.py"))
    assert [kind for kind in {**INSTEAD, **CHANGES} if f'"{kind}"' not in text] == []


def test_calls_at_the_same_time_rent_one_offer_once(server):
    answers = []

    def rent():
        with Api(server) as api:
            answers.append(create(api)[0])

    threads = [threading.Thread(target=rent) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [410] * 5
    assert len(server.control.billing_now()) == 1


def test_what_comes_in_is_no_json(api):
    answer = api.put(ASK, content=b"{", headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert json.loads(answer.text)["success"] is False
