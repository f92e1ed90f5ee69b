"""Destroy and stop: one request each, and only a clear word is success."""

import pytest

from llmhost.core.errors import AuthenticationNeeded, Unavailable

CALLS = {"destroy": ("DELETE", "destroy"), "stop": ("PUT", "manage")}


@pytest.fixture(params=sorted(CALLS))
def call(request):
    return request.param


@pytest.fixture
def rented(market, wish, order):
    return market.rent(market.offers(wish)[0], order).instance_id


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *(("server_error", {"status": status}) for status in (500, 502, 503, 504)),
        ("dropped", {}),
        ("truncated", {}),
        ("html_200", {}),
        ("empty_200", {}),
        ("redirect", {}),
        ("unsuccessful", {}),
        ("rate_limited", {"shape": "text", "retry_after": 300}),
    ],
)
def test_anything_but_a_clear_word_is_unavailable(control, market, rented, call, kind, options, after):
    method, route = CALLS[call]
    control.fault(kind, method, r"/instances/\d+/", count=-1, after=after, **options)
    with pytest.raises(Unavailable):
        getattr(market, call)(rented)
    assert len(control.requests(route)) == 1


@pytest.mark.parametrize("status", [401, 404, 403])
def test_a_wrong_key_does_not_look_like_an_instance_that_is_gone(control, market, rented, call, status):
    control.fault("auth", CALLS[call][0], r"/instances/\d+/", status=status)
    with pytest.raises(AuthenticationNeeded):
        getattr(market, call)(rented)


def test_a_key_that_may_not_write_is_told_so(server, opened, rented, call):
    key = server.market.keys.scoped({"api": {"instance_read": {}}}).secret
    with pytest.raises(AuthenticationNeeded, match="instance_write"):
        getattr(opened(vast_api_key=key), call)(rented)


def test_stopped_is_stopped(control, market, rented):
    market.stop(rented)
    assert control.instance(rented).status["intended_status"] == "stopped"
    assert control.requests("manage")[0].body == {"state": "stopped"}


def test_after_a_refusal_the_next_one_waits_its_turn(server, control, market, rented):
    for _ in range(4):
        market.destroy(rented)
    assert server.market.limits.refused == 0
    assert control.billing_now() == []
