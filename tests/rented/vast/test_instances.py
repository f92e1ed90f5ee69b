"""The list is whole or it is an error, and a row is never lost."""

import pytest

from llmhost.core.errors import AuthenticationNeeded, Unavailable
from llmhost.providers.vast.instances import all_instances

LIST = r"/api/v1/instances/"


@pytest.fixture
def rented(control, server):
    """A function: so many instances, rented by somebody in the console."""

    def rented(count):
        offers = [each for each in server.market.offers if each.rentable][:count]
        return [control.rent(each.id, f"label {each.id}") for each in offers]

    return rented


def ids(market):
    return [each.id for each in market.instances()]


@pytest.mark.parametrize("count", [0, 1, 25, 26, 60])
def test_every_page_is_read(control, market, rented, count):
    there = rented(count)
    assert ids(market) == there
    assert len(control.requests("list")) == max(1, -(-count // 25))
    assert control.requests("old_list") == []


def test_what_comes_twice_is_listed_once(control, market, rented):
    there = rented(60)
    control.fault("duplicated", "GET", LIST, count=3)
    assert ids(market) == there


@pytest.mark.parametrize(
    "kind", ["server_error", "dropped", "truncated", "html_200", "empty_200", "unsuccessful", "redirect"]
)
def test_one_lost_page_loses_the_list(control, market, rented, kind):
    rented(30)
    control.fault(kind, "GET", r"after_token", count=-1)
    with pytest.raises(Unavailable):
        market.instances()


@pytest.mark.parametrize(
    ("kind", "options"), [("pages_lost", {}), ("rows_lost", {}), ("fields_set", {"id": None}), ("pretend", {})]
)
def test_a_list_that_is_not_whole_is_an_error(control, market, rented, kind, options):
    rented(30)
    control.fault(kind, "GET", LIST, count=-1, **options)
    with pytest.raises(Unavailable):
        market.instances()


def test_pages_that_go_round_in_a_circle_are_an_error():
    with pytest.raises(Unavailable):
        all_instances(lambda token: {"instances": [{"id": 1}], "next_token": {None: "a", "a": "b", "b": "a"}[token]})


def test_what_was_rented_between_two_pages_is_no_missing_row():
    """The first page counts one, the last two; both are there."""
    pages = {None: {"instances": [{"id": 1}], "next_token": "a", "total_instances": 1}}
    pages["a"] = {"instances": [{"id": 2}], "next_token": None, "total_instances": 2}
    assert [each.id for each in all_instances(pages.__getitem__)] == [1, 2]


def test_what_was_destroyed_between_two_pages_is_no_missing_row():
    pages = {None: {"instances": [{"id": 1}], "next_token": "a", "total_instances": 3}}
    pages["a"] = {"instances": [{"id": 2}], "next_token": None, "total_instances": 2}
    assert [each.id for each in all_instances(pages.__getitem__)] == [1, 2]


def test_a_row_that_comes_again_adds_what_the_first_did_not_say():
    page = {"instances": [{"id": 1, "label": None, "ssh_port": 1}, {"id": 1, "label": "x", "dph_total": 2}]}
    found = all_instances(lambda _: page)
    assert [(each.id, each.label, each.price_usd_per_hour) for each in found] == [(1, "x", 2.0)]


@pytest.mark.parametrize("kind", ["server_error", "dropped", "truncated", "html_200", "rate_limited"])
def test_a_trouble_that_passes_is_waited_out(control, market, rented, kind):
    there = rented(2)
    control.fault(kind, "GET", LIST, count=2)
    assert ids(market) == there
    assert len(control.requests("list")) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"start_date": None},
        {"extra_env": None},
        {"extra_env": {}},
        {"ports": [8080]},
        {"label": None},
        {"dph_total": "0.4"},
    ],
)
def test_a_row_with_an_odd_field_is_listed(control, market, rented, fields):
    there = rented(3)
    control.fault("fields_set", "GET", LIST, **fields)
    assert ids(market) == there


def test_a_rename_leaves_the_claim(control, market, wish, order):
    number = market.rent(market.offers(wish)[0], order).instance_id
    control.rename(number, "somebody else's name")
    found = market.instances()[0]
    assert (found.label, found.claim) == ("somebody else's name", order.label)


def test_the_address_is_without_the_line_end_of_the_row(server, control, market, rented, settled):
    rented(1)
    settled(lambda: market.instances()[0].actual == "running")
    assert market.instances()[0].proxy == ("ssh3.vast.ai", 12296)


@pytest.mark.parametrize("status", [404, 401, 403])
def test_a_wrong_key_is_told_as_one_and_asked_once(server, control, market, status):
    control.fault("auth", "GET", LIST, count=-1, status=status)
    with pytest.raises(AuthenticationNeeded) as refused:
        market.instances()
    assert refused.value.code == "bad_key"
    assert server.key not in str(refused.value) + refused.value.hint
    assert len(control.requests("list")) == 1


def test_a_missing_permission_is_named(server, control, opened):
    key = server.market.keys.scoped({"api": {"user_read": {}}}).secret
    with pytest.raises(AuthenticationNeeded, match="instance_read") as refused:
        opened(vast_api_key=key).instances()
    assert refused.value.code == "no_permission"


def test_a_market_that_is_down_throughout_is_unavailable_in_bounded_time(control, market):
    control.fault("server_error", "GET", LIST, count=-1, status=503)
    with pytest.raises(Unavailable, match="503"):
        market.instances()
    assert len(control.requests("list")) == 4


def test_a_wait_longer_than_the_patience_is_not_waited(control, opened):
    control.fault("rate_limited", "GET", LIST, count=-1, retry_after=300)
    with pytest.raises(Unavailable, match="too often"):
        opened(vast_read_timeout_s=2).instances()
    assert len(control.requests("list")) == 1


def test_a_wait_that_is_asked_for_is_waited(control, market, rented):
    there = rented(1)
    control.fault("rate_limited", "GET", LIST, retry_after=1)
    assert ids(market) == there
    first, second = control.requests("list")
    assert second.at - first.at >= 1


def test_nobody_at_the_address_is_unavailable(server, market):
    server.pause()
    with pytest.raises(Unavailable) as refused:
        market.instances()
    assert server.key not in repr(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None
    server.start()
