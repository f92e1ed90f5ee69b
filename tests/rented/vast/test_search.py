"""What is asked of the search and what is believed of its answer."""

from dataclasses import replace

import pytest

from llmhost.core.errors import AuthenticationNeeded, Unavailable
from llmhost.providers.market import OfferWish
from llmhost.providers.vast import search
from tests.rented.vast.test_rows import OFFER

SEARCH = "/bundles/"


def row(number, price, **more):
    return OFFER | {"id": number, "dph_base": price, "dph_total": price, "storage_cost": 0.0} | more


def capped(rows):
    """A market with these rows, 64 at a time; and what it was asked."""
    asked = []

    def fetch(price):
        asked.append(price)
        tests = {"gt": lambda p: p > price[1], "gte": lambda p: p >= price[1]}
        fits = [each for each in rows if price is None or tests[price[0]](each["dph_total"])]
        return sorted(fits, key=lambda each: each["dph_total"])[: search.CAP]

    return fetch, asked


def test_numbers_are_asked_for_as_numbers(wish):
    asked = search.query(wish, price=("gte", 0.5))
    assert asked["num_gpus"] == {"eq": 1}
    assert asked["dph_total"] == {"gte": 0.5}
    assert asked["allocated_storage"] == 60.0
    assert asked["gpu_name"] == {"in": ["RTX 4090"]}
    assert (asked["type"], asked["external"], asked["rentable"]) == ("on-demand", {"eq": False}, {"eq": True})


def test_nothing_is_asked_that_would_hide_a_rejection():
    strict = OfferWish(
        ("H100 SXM",), 60.0, 3.0, trust="datacenter", regions=("SE",), max_price=0.1, static_ip=True, offer_id=7
    )
    assert search.query(strict) == search.query(OfferWish(("H100 SXM",), 60.0, 3.0))


def test_any_gpu_is_no_filter(wish):
    assert "gpu_name" not in search.query(replace(wish, gpus=()))


def test_a_gpu_may_be_written_with_an_underscore(market, wish):
    assert market.offers(replace(wish, gpus=("RTX_4090",))) == market.offers(wish)


@pytest.mark.parametrize(("count", "pages"), [(0, 1), (63, 1), (64, 2), (65, 2), (150, 3)])
def test_pages_are_read_by_price(count, pages):
    fetch, asked = capped([row(number, 0.1 + number / 1000) for number in range(count)])
    assert len(search.all_rows(fetch)) == count
    assert len(asked) == pages


def test_offers_of_one_price_are_not_lost_at_the_end_of_a_page():
    fetch, _ = capped([row(number, round(0.1 + number // 10 / 100, 2)) for number in range(200)])
    assert len(search.all_rows(fetch)) == 200


def test_a_page_of_one_price_alone_is_stepped_over():
    fetch, asked = capped([row(number, 0.3) for number in range(70)] + [row(100, 0.4)])
    assert [each["id"] for each in search.all_rows(fetch)] == [*range(64), 100]
    assert asked == [None, ("gte", 0.3), ("gt", 0.3)]


def test_a_market_that_does_not_heed_the_price_is_not_asked_for_ever():
    asked = []
    page = [row(number, 0.3) for number in range(64)]
    assert len(search.all_rows(lambda price: asked.append(price) or page)) == 64
    assert len(asked) <= 3


def test_a_market_without_end_is_not_asked_for_ever():
    asked = []

    def fetch(price):
        asked.append(price)
        return [row(64 * len(asked) + nth, len(asked) + nth / 100) for nth in range(64)]

    assert len(search.all_rows(fetch)) == 64 * search.MOST_PAGES


@pytest.mark.parametrize(
    "change",
    [
        {"gpu_name": "RTX 3060"},
        {"num_gpus": 8},
        {"rentable": False},
        {"rented": True},
        {"external": True},
        {"is_bid": True},
    ],
)
def test_what_came_back_is_checked(wish, change):
    assert [each.id for each in search.read([row(1, 0.3), row(2, 0.3) | change, None, {"id": 3}], wish)] == [1]


def test_all_that_is_free_is_found_the_unverified_too(server, control, market, wish):
    found = market.offers(wish)
    free = [
        each
        for each in server.market.offers.of("RTX 4090")
        if each.fields["num_gpus"] == 1 and not each.fields["external"]
    ]
    assert {each.id for each in found} == {each.id for each in free}
    assert len(found) > search.CAP
    assert {each.verified for each in found} == {True, False}
    prices = [each.price_usd_per_hour for each in found]
    assert prices == sorted(prices)
    assert {each.headers["content-type"] for each in control.requests("search")} == {"application/json"}


def test_a_bigger_disk_costs_more(market, wish):
    small = {each.id: each for each in market.offers(wish)}
    for each in market.offers(replace(wish, disk_gb=600.0)):
        more = each.price_usd_per_hour - small[each.id].price_usd_per_hour
        assert more == pytest.approx(540 * each.disk_usd_per_gb_month / 720)


def test_a_market_deaf_to_its_filters_is_seen_through(server, market, wish):
    server.market.deaf_to |= {"gpu_name", "num_gpus"}
    assert {(each.gpu, each.gpus) for each in market.offers(wish)} <= {("RTX 4090", 1)}


def test_a_market_that_does_not_take_our_query_is_asked_as_its_own_client_does(control, market, wish):
    control.fault(
        "refuse", "POST", SEARCH, code="invalid_request", status=400, msg="verified is not a valid search key"
    )
    found = market.offers(wish)
    assert {each.verified for each in found} == {True}
    assert control.requests("search")[1].body["verified"] == {"eq": True}


@pytest.mark.parametrize("kind", ["server_error", "dropped", "truncated", "html_200", "rate_limited"])
def test_a_trouble_that_passes_is_waited_out(control, market, wish, kind):
    control.fault(kind, "POST", SEARCH, count=2)
    assert market.offers(wish)


def test_a_used_up_quota_is_not_asked_again(server, control, market, wish):
    server.market.limits.searches_per_day = 0
    with pytest.raises(Unavailable, match="no more today") as refused:
        market.offers(wish)
    assert refused.value.code == "search_quota_exceeded"
    assert "midnight UTC" in refused.value.hint
    assert len(control.requests("search")) == 1


@pytest.mark.parametrize(
    ("kind", "options"), [("redirect", {}), ("unsuccessful", {}), ("pretend", {}), ("empty_200", {})]
)
def test_what_is_no_list_of_offers_is_unavailable(control, market, wish, kind, options):
    control.fault(kind, "POST", SEARCH, count=-1, **options)
    with pytest.raises(Unavailable):
        market.offers(wish)
    assert {each.method for each in control.requests()} == {"POST"}


def test_a_wrong_key_is_told_as_one(control, market, wish):
    control.fault("auth", "POST", SEARCH)
    with pytest.raises(AuthenticationNeeded):
        market.offers(wish)


def test_many_searches_keep_the_markets_pace(server, control, market, wish):
    for more in range(9):
        market.offers(replace(wish, disk_gb=60.0 + more))
    assert len(control.requests("search")) == 18
    assert server.market.limits.refused == 0
