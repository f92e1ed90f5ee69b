"""What every answer to a create means (vast facts §1.5 and §6.1)."""

import json

import pytest

from llmhost.providers.market import Refused, Rented, Unknown
from llmhost.providers.vast.create import outcome

KEY = "0123456789abcdef" * 4
HTML = b"<html><head><title>502 Bad Gateway</title></head></html>"
RENTED = {"success": True, "new_contract": 33402296, "instance_api_key": KEY}


def of(status, body, **headers):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return outcome(status, {key.replace("_", "-"): value for key, value in headers.items()}, raw, [KEY])


def error(code, msg="", **more):
    return {"success": False, "error": code, "msg": msg, **more}


@pytest.mark.parametrize("body", [RENTED, RENTED | {"new_contract": "33402296"}, {"new_contract": 33402296}])
def test_an_id_in_a_success_is_ours(body):
    assert of(200, body) == Rented(33402296)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, {"success": True}),
        (200, {"success": True, "new_contract": None}),
        (200, {"success": True, "new_contract": True}),
        (200, {"success": True, "new_contract": 0}),
        (200, {"success": True, "new_contract": "soon"}),
        (200, {}),
        (200, b""),
        (200, b"null"),
        (200, b"[33402296]"),
        (200, b"\xff\xfe"),
        (200, json.dumps(RENTED).encode()[:-20]),
        (200, HTML),
        (204, b""),
        (302, b""),
        (301, {"success": True}),
        (400, HTML),
        (404, HTML),
        (404, b""),
        (403, HTML),
        (400, {}),
        (408, error("timeout", "Request timed out")),
        (500, HTML),
        (500, error("server_error", "Internal Server Error")),
        (502, HTML),
        (503, b"Service Unavailable"),
        (504, error("server_error", "Gateway Time-out")),
        (599, b"[" * 100_000),
        (102, RENTED | {"new_contract": None}),
    ],
)
def test_without_a_clear_word_nobody_knows(status, body):
    found = of(status, body)
    assert isinstance(found, Unknown)
    assert found.why
    assert KEY not in found.why


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (410, error("no_such_ask", "error 410/3907: no_such_ask … no longer available."), "offer_gone"),
        (
            404,
            error("invalid_args", "error 404/3603: no_such_ask Instance type by id 1 is not available."),
            "offer_gone",
        ),
        (400, error("no_such_ask"), "offer_gone"),
        (410, error("deprecated_endpoint", "gone"), "offer_gone"),
        (200, error("resources_unavailable", "state change queued."), "offer_gone"),
        (400, error("insufficient_credit", "Your account lacks credit; see the billing page."), "insufficient_credit"),
        (402, error("payment", "pay"), "insufficient_credit"),
        (400, error("spend_rate_limit", "limited in what it may spend"), "spend_limit"),
        (404, error("auth_error", "Invalid user key"), "auth"),
        (401, error("auth_error", "Invalid user key"), "auth"),
        (401, error("whatever", "no"), "auth"),
        (404, error("auth_error", "other words"), "auth"),
        (403, error("auth_error", "This action requires login."), "auth"),
        (401, error("auth_error", "Your key lacks the instance_write permission group"), "permission"),
        (401, error("auth_error", "not authorized for this request due to a constraint on id"), "permission"),
        (403, error("invalid_args", "error 403/3586: Hosts can only rent their own machines."), "invalid_request"),
        (400, error("invalid_args", "error 400/3467: Invalid args: disk must be >= 8"), "invalid_request"),
        (400, error("invalid_price", "bid"), "invalid_request"),
        (400, error("no_ssh_key_for_vm"), "invalid_request"),
        (400, error("server_error", "could not inspect the image"), "server"),
        (200, error("error", "Something went wrong."), "server"),
        (200, {"success": False}, "server"),
        (429, b"API requests too frequent: endpoint threshold=2.0", "rate_limited"),
        (429, {"detail": "API requests too frequent endpoint threshold=4.5"}, "rate_limited"),
        (429, error("rate_limit_exceeded", "too frequent"), "rate_limited"),
        (429, HTML, "rate_limited"),
        (200, error("rate_limit_exceeded", "too frequent"), "rate_limited"),
    ],
)
def test_a_refusal_has_its_reason(status, body, reason):
    found = of(status, body)
    assert isinstance(found, Refused)
    assert (found.reason, found.instance_id) == (reason, None)


@pytest.mark.parametrize("status", [200, 400, 404, 410, 429, 500, 502, 302])
@pytest.mark.parametrize("code", ["invalid_price", "no_such_ask", "server_error", "rate_limit_exceeded"])
def test_whatever_went_wrong_an_id_in_it_is_not_lost(status, code):
    found = of(status, error(code, "could not be started", new_contract=7))
    assert isinstance(found, Refused)
    assert found.instance_id == 7


@pytest.mark.parametrize(
    ("body", "header", "wait"),
    [
        ({"detail": "too frequent"}, "2", 2.0),
        ({"detail": "too frequent"}, "300", 300.0),
        ({"detail": "too frequent", "retry_after": 7.5}, None, 7.5),
        ({"detail": "too frequent"}, "Wed, 21 Oct 2026 07:28:00 GMT", None),
        ({"detail": "too frequent"}, "nan", None),
        ({"detail": "too frequent"}, "-3", 0.0),
        (b"text", "2", 2.0),
        (b"text", None, None),
    ],
)
def test_how_long_to_wait_is_what_the_market_says(body, header, wait):
    found = of(429, body, **({"retry_after": header} if header else {}))
    assert found == Refused("rate_limited", found.message, wait)


def test_a_message_is_bounded_and_tells_no_secret_and_no_address():
    text = f"key {KEY} at https://console.vast.ai/api/v0/asks/1/?api_key={KEY}\n\x1b[31m" + "x" * 5000
    found = of(400, error("invalid_args", text))
    assert KEY not in found.message
    assert "://" not in found.message
    assert found.message.isprintable()
    assert len(found.message) < 400
