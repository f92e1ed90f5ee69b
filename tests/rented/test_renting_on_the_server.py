"""The transaction through the real provider, over the wire: every way in which a create goes wrong (vast facts §6.1)."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmhost.core.errors import LlmhostError, StillBilling
from llmhost.fleet.rented.ending import end, end_orphan
from llmhost.fleet.rented.reconcile import reconcile
from llmhost.fleet.rented.transaction import rent
from llmhost.providers.market import OfferWish
from tests.rented.conftest import a_deal, end_everything, try_rent

# By fault: its options, and how many machines there are before and after it is found out.
FAULTS = {
    "502 after": ("server_error", {"status": 502, "after": True}),
    "502 before": ("server_error", {"status": 502}),
    "503 after": ("server_error", {"status": 503, "after": True, "shape": "json"}),
    "504 after": ("server_error", {"status": 504, "after": True, "shape": "text"}),
    "500 after": ("server_error", {"status": 500, "after": True}),
    "500 before": ("server_error", {"status": 500}),
    "dropped after": ("dropped", {"after": True}),
    "dropped before": ("dropped", {}),
    "truncated": ("truncated", {"after": True}),
    "cut short": ("truncated", {"after": True, "announced": True}),
    "a page after": ("html_200", {"after": True}),
    "a page before": ("html_200", {}),
    "nothing after": ("empty_200", {"after": True}),
    "nothing before": ("empty_200", {}),
    "a redirect before": ("redirect", {}),
    "a redirect after": ("redirect", {"after": True}),
    "success false after": ("unsuccessful", {"after": True}),
    "success false before": ("unsuccessful", {}),
    "success that is none": ("pretend", {}),
    "no id": ("no_id", {}),
    "the id as text": ("id_as_text", {}),
    "410 after": ("refuse", {"after": True}),
    "410 before": ("refuse", {}),
    "404 after": ("refuse", {"code": "invalid_args", "after": True}),
    "400 no credit before": ("refuse", {"code": "insufficient_credit"}),
    "400 spend limit before": ("refuse", {"code": "spend_rate_limit"}),
    "400 no image before": ("refuse", {"code": "server_error"}),
    "400 with contract": ("refused_with_contract", {}),
    "200 with contract": ("refused_with_contract", {"status": 200}),
    "the label lost": ("label_lost", {}),
    "401 before": ("auth", {"status": 401}),
    "404 key before": ("auth", {}),
    "no permission before": ("auth", {"status": 1401}),
    "429 before": ("rate_limited", {}),
    "429 after": ("rate_limited", {"after": True}),
    "429 text before": ("rate_limited", {"shape": "text", "retry_after": 1}),
}


def deal(desk):
    """The cheapest offer for a node."""
    return a_deal(given=desk.market.offers(OfferWish(("RTX 4090",), 60.0, 4.0))[0])


def billing(market_server):
    return {cost.id for cost in market_server.control.billing_now()}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_bills_is_what_the_ledger_knows(market_server, vast_desk, fault):
    kind, options = FAULTS[fault]
    rule = market_server.control.fault(kind, "PUT", "/asks/", **options)
    outcome = try_rent(deal(vast_desk), vast_desk)
    assert rule.spent
    rows = vast_desk.ledger.rentals.all(open_only=True)
    assert billing(market_server) == {row.instance_id for row in rows}
    assert len(rows) == (not isinstance(outcome, LlmhostError)), outcome
    assert len(market_server.control.requests("create")) == 1 + ("429" in fault and "before" in fault)
    end_everything(vast_desk)
    assert billing(market_server) == set()


@pytest.mark.parametrize("listing", ["dropped", "server_error", "rate_limited"])
@pytest.mark.parametrize("made", [True, False])
def test_the_list_down_throughout(market_server, vast_desk, listing, made):
    offer = deal(vast_desk)
    market_server.control.fault("dropped", "PUT", "/asks/", after=made)
    down = market_server.control.fault(listing, "GET", "/instances/", count=-1)
    error = try_rent(offer, vast_desk)
    assert (type(error), error.code) == (StillBilling, "rent_unsettled")
    assert [row.state for row in vast_desk.ledger.rentals.all()] == ["unknown"]
    down.count = down.hits
    found = reconcile(vast_desk)
    assert [row.instance_id for row in found.unfinished] == sorted(billing(market_server))
    end_everything(vast_desk)
    assert billing(market_server) == set()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("server_error", {}),
        ("server_error", {"after": True}),
        ("dropped", {}),
        ("dropped", {"after": True}),
        ("rate_limited", {}),
        ("pretend", {}),
        ("html_200", {}),
    ],
)
def test_an_end_goes_wrong_once(market_server, vast_desk, kind, options):
    rental = rent(deal(vast_desk), vast_desk)
    market_server.control.fault(kind, "DELETE", **options)
    market_server.control.fault("empty_list", "GET", "/instances/")
    quick = replace(vast_desk, timing=replace(vast_desk.timing, verify_s=3.0))
    ended = end([rental], quick, "asked")[0]
    assert (ended.verified, ended.error) == (True, None)
    assert billing(market_server) == set()


def test_others_in_the_account_are_left_alone_and_a_lost_ledger_is_no_loss(market_server, vast_desk):
    theirs = market_server.control.rent(
        next(each.id for each in market_server.market.offers if each.rentable), "theirs"
    )
    rental = rent(deal(vast_desk), vast_desk)
    vast_desk.ledger._connection.execute("DELETE FROM rentals")
    market_server.control.rename(rental.instance_id, "renamed")
    found = reconcile(vast_desk)
    assert [each.id for each in found.others] == [theirs]
    assert [orphan.instance.id for orphan in found.orphans] == [rental.instance_id]
    assert end_orphan(found.orphans[0].instance, vast_desk).verified
    assert billing(market_server) == {theirs}
