"""The account and its keys."""

import pytest

from llmhost.core.errors import AuthenticationNeeded, Unavailable
from llmhost.providers.market import Account
from tests.rented.market_contract import KEY


def test_what_can_be_spent_is_the_credit(server, market):
    server.market.account.credit, server.market.account.balance = 12.5, 99.0
    assert market.account() == Account(12.5, "renter@example.test", id=str(server.market.account.id))


def test_a_key_that_may_not_see_the_account_sees_nothing_of_it(server, opened):
    key = server.market.keys.scoped({"api": {"instance_read": {}}}).secret
    assert opened(vast_api_key=key).account() == Account()


@pytest.mark.parametrize("bad_key", [404, 401])
def test_an_unknown_key_is_told_as_one(server, control, opened, bad_key):
    control.set(bad_key=bad_key)
    with pytest.raises(AuthenticationNeeded) as refused:
        opened(vast_api_key="f" * 64).account()
    assert refused.value.code == "bad_key"
    assert "f" * 8 not in str(refused.value)


def test_a_market_that_is_down_says_nothing(control, market):
    control.fault("server_error", "GET", "/users/current", count=-1)
    with pytest.raises(Unavailable):
        market.account()


def test_a_key_is_registered_once_whatever_its_comment(server, market):
    market.register_key(KEY)
    market.register_key(KEY.replace("contract", "another comment") + "\n")
    assert [each["public_key"] for each in server.market.account.ssh_keys.values()] == [KEY]


def test_a_key_that_the_market_says_it_has_is_there(control, market, wish, order):
    control.fault("refuse", "POST", "/ssh/", count=-1, code="duplicate", msg="This key already exists.")
    market.register_key(KEY)
    market.attach_key(market.rent(market.offers(wish)[0], order).instance_id, KEY)


@pytest.mark.parametrize(("groups", "missing"), [(["user_read"], "user_write"), (["user_write"], "user_read")])
def test_a_key_of_the_api_that_may_not_register_names_what_it_lacks(server, opened, groups, missing):
    key = server.market.keys.scoped({"api": {name: {} for name in groups}}).secret
    with pytest.raises(AuthenticationNeeded, match=missing) as refused:
        opened(vast_api_key=key).register_key(KEY)
    assert refused.value.code == "no_permission"
    assert missing in refused.value.hint


def test_a_key_that_could_not_be_registered_is_not_taken_for_one(control, market):
    control.fault("server_error", "POST", "/api/v0/ssh/", count=-1)
    with pytest.raises(Unavailable):
        market.register_key(KEY)
    assert len(control.requests("ssh_key_create")) == 1


def test_a_key_is_attached_to_one_machine(control, market, wish, order):
    number = market.rent(market.offers(wish)[0], order).instance_id
    market.attach_key(number, KEY)
    assert control.instance(number).keys == [KEY]
