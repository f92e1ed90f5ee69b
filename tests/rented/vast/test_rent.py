"""Renting under every fault: one request, an honest outcome, and nothing said of the key."""

import threading

import pytest

from llmhost.core.errors import LlmhostError
from llmhost.providers.market import Refused, Rented, Unknown
from tests.support.system import wait_until

DEFINITE = [
    ("refuse", {"code": "no_such_ask"}, "offer_gone"),
    ("refuse", {"code": "no_such_ask", "status": 400}, "offer_gone"),
    ("refuse", {"code": "invalid_args"}, "offer_gone"),
    ("refuse", {"code": "insufficient_credit"}, "insufficient_credit"),
    ("refuse", {"code": "spend_rate_limit"}, "spend_limit"),
    ("refuse", {"code": "server_error"}, "server"),
    ("refuse", {"code": "resources_unavailable"}, "offer_gone"),
    ("refuse", {"code": "no_ssh_key_for_vm"}, "invalid_request"),
    ("unsuccessful", {}, "server"),
    ("auth", {}, "auth"),
    ("auth", {"status": 401}, "auth"),
    ("auth", {"status": 403}, "auth"),
    ("auth", {"status": 1401}, "permission"),
    ("rate_limited", {"shape": "text"}, "rate_limited"),
    ("rate_limited", {"shape": "detail"}, "rate_limited"),
    ("rate_limited", {"shape": "error", "retry_after": 2}, "rate_limited"),
    ("rate_limited", {"shape": "detail", "retry_after": 300}, "rate_limited"),
]
UNCLEAR = [
    *(("server_error", {"status": status, "shape": shape}) for status in (500, 502, 503, 504) for shape in ("html", "json")),
    ("server_error", {"status": 503, "shape": "text"}),
    ("dropped", {}),
    ("truncated", {}),
    ("truncated", {"announced": True}),
    ("html_200", {}),
    ("empty_200", {}),
    ("redirect", {}),
    ("redirect", {"to": "http://127.0.0.1:9/"}),
    ("pretend", {}),
]  # fmt: skip


def rent(market, wish, order):
    return market.rent(market.offers(wish)[0], order)


@pytest.fixture
def rented_once(server, control):
    """After each test: there was exactly one request, and the key is only where it belongs."""
    yield
    wait_until(lambda: control.requests("create"), "the request", 30)
    sent = control.requests("create")
    assert len(sent) == 1
    assert sent[0].headers["authorization"] == f"Bearer {server.key}"
    assert server.key not in sent[0].raw + sent[0].path + str(sent[0].query)


@pytest.mark.usefixtures("rented_once")
class TestOneRequest:
    def test_a_success_is_rented(self, control, market, wish, order):
        found = rent(market, wish, order)
        assert [(each.id, each.label) for each in control.instances()] == [(found.instance_id, order.label)]

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize(("kind", "options", "reason"), DEFINITE)
    def test_a_refusal_is_refused(self, server, control, market, wish, order, kind, options, reason, after):
        control.fault(kind, "PUT", "/asks/", count=-1, after=after, **options)
        found = rent(market, wish, order)
        assert isinstance(found, Refused)
        assert found.reason == reason
        assert server.key not in repr(found)
        if reason == "rate_limited":
            assert found.retry_after_s == pytest.approx(options.get("retry_after", 16.5 * 0.01))

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    @pytest.mark.parametrize(("kind", "options"), UNCLEAR)
    def test_anything_unclear_is_unknown(self, server, control, market, wish, order, kind, options, after):
        control.fault(kind, "PUT", "/asks/", count=-1, after=after, **options)
        found = rent(market, wish, order)
        assert isinstance(found, Unknown)
        assert server.key not in found.why
        assert server.url not in found.why
        assert len(control.billing_now()) == after

    @pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
    def test_no_answer_in_time_is_unknown(self, control, opened, wish, order, after):
        control.fault("slow", "PUT", "/asks/", after=after, seconds=3)
        assert isinstance(rent(opened(vast_write_timeout_s=0.5), wish, order), Unknown)

    def test_a_success_without_its_id_is_unknown(self, control, market, wish, order):
        control.fault("no_id", "PUT", "/asks/")
        assert isinstance(rent(market, wish, order), Unknown)
        assert len(control.billing_now()) == 1

    def test_an_id_as_a_text_is_an_id(self, control, market, wish, order):
        control.fault("id_as_text", "PUT", "/asks/")
        assert rent(market, wish, order) == Rented(control.instances()[0].id)

    @pytest.mark.parametrize("status", [200, 400, 404, 410, 500])
    def test_a_refusal_that_rented_all_the_same_says_what(self, control, market, wish, order, status):
        control.fault("refused_with_contract", "PUT", "/asks/", status=status)
        found = rent(market, wish, order)
        assert isinstance(found, Refused)
        assert found.instance_id == control.instances()[0].id

    def test_an_offer_that_somebody_else_took_is_gone(self, control, market, wish, order):
        offer = market.offers(wish)[0]
        control.take(offer.id)
        found = market.rent(offer, order)
        assert (found.reason, found.instance_id) == ("offer_gone", None)


def test_without_a_market_nobody_knows(server, market, wish, order):
    offer = market.offers(wish)[0]
    server.pause()
    assert isinstance(market.rent(offer, order), Unknown)
    server.start()


def test_an_order_with_the_key_in_it_never_leaves(server, control, market, wish, order):
    with pytest.raises(LlmhostError, match="secret") as refused:
        rent(market, wish, type(order)(order.label, order.image, 60.0, f"echo {server.key}"))
    assert refused.value.code == "secret_in_order"
    assert control.requests("create") == []


def test_nor_does_one_with_another_secret_of_the_settings(control, opened, wish, order):
    market = opened(redis_url="redis://me:p%40ssword-7@127.0.0.1:6379/0")
    with pytest.raises(LlmhostError) as refused:
        rent(market, wish, type(order)(order.label, order.image, 60.0, "echo hi", {"PASSWORD": "p@ssword-7"}))
    assert refused.value.code == "secret_in_order"
    assert control.requests("create") == []


def test_threads_that_rent_at_once_keep_the_markets_pace(server, control, opened, wish, order):
    offers = opened().offers(wish)[:3]
    found = []

    def one(offer):
        # Each with its own: what is shared is the process.
        found.append(opened().rent(offer, order))

    threads = [threading.Thread(target=one, args=(offer,)) for offer in offers]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len({each.instance_id for each in found}) == 3
    assert server.market.limits.refused == 0
