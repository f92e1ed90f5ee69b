"""Renting and ending where little can be relied upon: a key that changes, clocks that jump, lists that take long, a ledger that fails."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from llmhost.core.errors import AuthenticationNeeded, Unavailable
from llmhost.core.ledger import Ledger
from llmhost.core.rentals import Rental
from llmhost.fleet.rented import claims
from llmhost.fleet.rented.clock import Clock
from llmhost.fleet.rented.ending import end
from llmhost.fleet.rented.leave import Scope, end_rented
from llmhost.fleet.rented.ownership import new_label
from llmhost.fleet.rented.reconcile import reconcile
from llmhost.fleet.rented.settle import settle
from llmhost.fleet.rented.timing import RentTiming
from llmhost.fleet.rented.transaction import rent
from llmhost.providers.market import Account, OfferWish
from tests.rented.conftest import a_deal, end_everything, later, try_rent
from tests.rented.memory_market import Answer, MemoryMarket
from tests.support.told import Told

WISH = OfferWish(("RTX 4090",), 60.0, 4.0)


class MadeUp(Clock):
    """Both clocks are made up; `wall` is by how much the time of day was set."""

    def __init__(self):
        self.passed = 0.0
        self.wall = 0.0

    def now(self):
        return datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=self.passed + self.wall)

    def monotonic(self):
        return self.passed

    def wait(self, event, seconds):
        self.passed += max(0.0, seconds)
        return event.is_set()


@pytest.fixture
def slow(desk):
    """The desk with the waits of the real market, and a clock on which they take no time."""
    return replace(desk, clock=MadeUp(), timing=RentTiming())


def attempt(desk, state, number=None):
    label = new_label(desk.installation, "default", "a1b2c3d4e5f6", 1)
    since = None if number is None else desk.stamp()
    row = Rental(
        label, "default", "n1", state, desk.stamp(), 1, 2, 3, "RTX 4090", 0.36, instance_id=number, rented_at=since
    )
    desk.ledger.rentals.add(row)
    return row


# ── the key ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_key_that_is_revoked_while_ending_is_told_soon(slow, memory):
    rental = rent(a_deal(), slow)
    memory.always_list = "auth"
    began = slow.clock.monotonic()
    (ended,) = end([rental], slow, "asked")
    assert slow.clock.monotonic() - began < 30
    assert (ended.verified, ended.rental.state, ended.error.exit_code, ended.error.code) == (
        False,
        "destroying",
        6,
        "bad_key",
    )


class NoWrites(MemoryMarket):
    """Its key may look, and not destroy."""

    def destroy(self, instance_id):
        self.calls.append("destroy")
        raise AuthenticationNeeded("the key lacks instance_write.", hint="Make a key.", code="no_permission")

    stop = destroy


def test_a_key_that_may_not_destroy_is_told_soon(slow):
    market = NoWrites()
    slow = replace(slow, market=market)
    rental = rent(a_deal(), slow)
    began = slow.clock.monotonic()
    (ended,) = end([rental], slow, "asked")
    assert slow.clock.monotonic() - began < 30
    assert (ended.verified, ended.error.code, ended.error.hint) == (
        False,
        "no_permission",
        "Make a key. Then: llmhost down",
    )
    market.vanish(rental.instance_id)
    assert end([ended.rental], slow, "asked")[0].verified, "who ended it in the console is believed"


def test_a_key_that_is_refused_once_is_asked_again(desk, memory):
    rental = rent(a_deal(), desk)
    memory.lists.extend(["auth"] * (desk.timing.settle_answers - 1))
    assert end([rental], desk, "asked")[0].verified


@pytest.mark.parametrize(("said", "exit_code"), [("auth", 4), ("unknown", 6)])
def test_a_key_that_is_refused_everywhere_is_not_waited_for(slow, memory, said, exit_code):
    memory.answers.append(Answer(said, 0))
    memory.always_list = "auth"
    began = slow.clock.monotonic()
    assert try_rent(a_deal(), slow).exit_code == exit_code
    assert slow.clock.monotonic() - began < 20


@pytest.mark.parametrize("state", ["intent", "unknown", "rented", "ready", "destroying"])
def test_the_key_of_another_account_proves_nothing(desk, memory, state):
    """It lists nothing of ours and says of each machine that there is none: neither is an end."""
    memory.account_id = "1"
    rental = rent(a_deal(), desk)
    desk.ledger.rentals._connection.execute("DELETE FROM rentals")
    number = None if state in ("intent", "unknown") else rental.instance_id
    desk.ledger.rentals.add(replace(rental, state=state, instance_id=number, rented_at=rental.rented_at))
    desk = later(desk, 3600)
    other = replace(desk, market=MemoryMarket(account_id="2"))
    found = reconcile(other)
    assert found.vanished == []
    assert "another account" in desk.ledger.rentals.inventory().trouble
    (ended,) = end(desk.ledger.rentals.all(), other, "asked")
    assert (ended.verified, ended.error.exit_code, ended.error.code[:5]) == (
        False,
        6,
        "other" if number else "rent_",
    )
    assert "VAST_API_KEY" in ended.error.hint
    assert memory.billing() == {rental.instance_id}
    end_everything(desk)
    assert memory.billing() == set()


def test_another_key_of_the_same_account_or_one_that_may_not_say_is_good_enough(desk, memory):
    memory.account_id = "1"
    rental = rent(a_deal(), desk)
    memory.account_id = None
    memory.vanish(rental.instance_id)
    assert [each.label for each in reconcile(later(desk, 3600)).vanished] == [rental.label]


class Asked(MemoryMarket):
    """Says whose the key is when it is asked."""

    def account(self):
        self.calls.append("account")
        self.account_id = "2"
        return Account(1.0, id="2")


def test_whose_a_fresh_key_is_is_asked_before_anything_is_given_up(desk, memory):
    memory.account_id = "1"
    rental = rent(a_deal(), desk)
    market = Asked()
    assert reconcile(later(replace(desk, market=market), 3600)).vanished == []
    assert market.calls.count("account") == 1
    assert end([rental], replace(desk, market=market), "asked")[0].error.code == "other_account"
    assert desk.ledger.rentals.get(rental.label).is_open


def test_a_market_that_does_not_say_whose_a_key_is_is_asked_once(desk, memory):
    memory.account_id = "1"
    rentals = [rent(a_deal(number), desk) for number in range(3)]

    class Silent(MemoryMarket):
        def account(self):
            self.calls.append("account")
            raise Unavailable("the marketplace does not answer.")

    market = Silent()
    found = reconcile(later(replace(desk, market=market), 3600))
    assert len(found.vanished) == len(rentals)
    assert market.calls.count("account") == 1


def test_a_colleagues_key_that_lists_the_machine_ends_it(desk, memory):
    """Another name, and yet the same account."""
    memory.account_id = "1"
    first, second = (rent(a_deal(number), desk) for number in (1, 2))
    memory.account_id = "2"
    assert end([first], desk, "asked")[0].verified
    reconcile(desk)
    memory.vanish(second.instance_id)
    assert [each.label for each in reconcile(later(desk, 3600)).vanished] == [second.label]
    assert desk.ledger.rentals.all(open_only=True) == []


def test_a_key_that_may_not_look_still_ends_what_is_known(market_server, vast_desk, vast_settings, home):
    rental = rent(a_deal(given=vast_desk.market.offers(WISH)[0]), vast_desk)
    blind = market_server.market.keys.scoped({"api": {"instance_write": {}}}).secret
    settings = vast_settings.model_copy(update={"vast_api_key": blind})
    parting = end_rented([rental], Scope("default"), settings, home.paths, Told(), "down")
    assert [error.exit_code for error in parting.errors] == [6]
    assert "instance_read" in parting.errors[0].message + parting.errors[0].hint
    assert not market_server.control.billing_now()
    reconcile(later(vast_desk, 3600))
    assert vast_desk.ledger.rentals.get(rental.label).state == "gone"


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clock_that_is_set_forward_does_not_shorten_the_window(slow, memory):
    class Setting(MemoryMarket):
        def rent(self, offer, order):
            answer = super().rent(offer, order)
            slow.clock.wall += 3600
            return answer

        def instances(self):
            shown = super().instances()
            return shown if slow.clock.monotonic() > 15 else []

    market = Setting()
    market.answers.append(Answer("unknown"))
    rental = rent(a_deal(), replace(slow, market=market))
    assert {rental.instance_id} == market.billing()


def test_what_was_rented_before_the_clock_was_set_back_can_vanish(desk, memory):
    rental = rent(a_deal(), later(desk, 30 * 86_400))
    memory.vanish(rental.instance_id)
    assert [each.label for each in reconcile(desk).vanished] == [rental.label]


def test_a_call_that_a_dead_process_made_may_still_be_carried_out(slow, memory):
    """Killed right after it sent the create: the market may take as long for it as the call had."""
    row = attempt(slow, "intent")

    class Late(MemoryMarket):
        def instances(self):
            if slow.clock.monotonic() > 45 and not self.billing():
                self.foreign(row.label)
            return super().instances()

    market = Late()
    kept = settle(row, replace(slow, market=market))
    assert (kept.state, {kept.instance_id}) == ("rented", market.billing())


def test_a_list_that_takes_long_still_settles(slow):
    """A thousand machines of others are forty pages, a second each (vast facts §1.5)."""

    class Long(MemoryMarket):
        def instances(self):
            slow.clock.passed += 90
            return super().instances()

    market = Long()
    market.answers.append(Answer("offer_gone", 0))
    assert try_rent(a_deal(), replace(slow, market=market)).code == "offer_gone"


def test_a_list_that_is_empty_for_a_moment_gives_nothing_up(slow, memory):
    rental = rent(a_deal(), slow)
    slow.clock.wall += 3600
    memory.lists.extend(["empty", "empty"])
    assert reconcile(slow).vanished == []
    assert slow.ledger.rentals.get(rental.label).is_open


# ── who only wants to know ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("how", ["lie", "fail"])
def test_looking_waits_for_no_end_that_takes_minutes(slow, memory, how):
    rental = rent(a_deal(), slow)
    memory.always_end = how
    slow.ledger.rentals.move(rental.label, "destroying")
    began = slow.clock.monotonic()
    found = reconcile(slow, patience_s=15)
    assert slow.clock.monotonic() - began < 25
    assert [row.label for row in found.unsettled] == [rental.label]


def test_looking_settles_nothing_before_its_time(slow, memory):
    row = attempt(slow, "intent")
    found = reconcile(slow, patience_s=15)
    assert [each.label for each in found.unsettled] == [row.label]
    assert slow.clock.monotonic() < 25
    memory.foreign(row.label)
    assert [each.label for each in reconcile(slow, patience_s=15).unfinished] == [row.label]


def test_looking_does_not_wait_for_each_end_that_hangs(slow, memory):
    class Hanging(MemoryMarket):
        def destroy(self, instance_id):
            slow.clock.passed += 60
            raise Unavailable("no answer in time.")

    market = Hanging()
    desk = replace(slow, market=market)
    for number in range(4):
        rental = rent(a_deal(number), desk)
        desk.ledger.rentals.move(rental.label, "destroying")
    began = slow.clock.monotonic()
    assert len(reconcile(desk, patience_s=15).unsettled) == 4
    assert slow.clock.monotonic() - began < 80


# ── the ledger ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_machine_of_an_order_ends_although_nothing_can_be_written(desk, memory, home):
    memory.answers.append(Answer("ok", 3))
    rental = rent(a_deal(), desk)
    uri = f"{home.paths.ledger_file.as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    with Ledger(home.paths.ledger_file, connection) as ledger:
        ended = end([rental], replace(desk, ledger=ledger), "asked")
    assert [each.verified for each in ended] == [True]
    assert memory.billing() == set()


def test_a_row_that_is_closed_between_two_looks_is_what_it_says(desk, memory):
    rental = rent(a_deal(), desk)

    class Racing(type(desk.ledger.rentals)):
        def get(self, label):
            found = super().get(label)
            if found is not None and found.state == "rented" and not self._connection.in_transaction:
                super().move(label, "gone")
            return found

    rentals = desk.ledger.rentals
    rentals.__class__ = Racing
    assert desk.move(rental, "ready").state == "gone"


def test_two_who_settle_at_once_put_one_machine_on_the_row(desk, memory):
    """Their lists differ, as pages get lost: each machine is known to the ledger in the end."""
    row = attempt(desk, "unknown")
    first, second = memory.foreign(row.label), memory.foreign(row.label)
    desk.ledger.rentals.move(row.label, "rented", instance_id=first)
    listed = {each.id: each for each in memory.instances()}
    for found in ([listed[second]], [listed[first], listed[second]], [listed[first]]):
        kept, seconds = claims.adopt(row, found, desk)
        assert kept.instance_id == first
        assert {each.instance_id for each in seconds} == {each.id for each in found} - {first}
    end_everything(desk)
    assert memory.billing() == set()


def test_a_second_machine_that_two_write_down_at_once_has_one_row(desk, memory):
    row = attempt(desk, "unknown")
    number = memory.foreign(row.label)
    rentals = desk.ledger.rentals

    class Racing(type(rentals)):
        def add(self, rental):
            super().add(rental)
            super().add(rental)

    rentals.__class__ = Racing
    (instance,) = memory.instances()
    assert claims.remember_second(row, instance, desk).instance_id == number


# ── secrets ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_no_key_or_token_of_the_market_is_kept(market_server, vast_desk, home, caplog):
    caplog.set_level("DEBUG")
    rental = rent(a_deal(given=vast_desk.market.offers(WISH)[0]), vast_desk)
    found = reconcile(vast_desk)
    made = market_server.control.instance(rental.instance_id)
    kept = b"".join(each.read_bytes() for each in home.paths.state_dir.rglob("*") if each.is_file())
    kept += json.dumps([each.as_dict() for each in found.instances]).encode() + caplog.text.encode()
    for secret in (market_server.key, made.key, made.jupyter_token):
        assert secret.encode() not in kept
    end_everything(vast_desk)


def test_whose_the_account_is_is_known_once_it_was_asked(market_server, vast_desk):
    market = vast_desk.market
    assert market.account_id is None
    assert market.account().id == market.account_id == str(market_server.market.account.id)
    rental = rent(a_deal(given=market.offers(WISH)[0]), vast_desk)
    assert rental.terms["account"] == market.account_id
    end_everything(vast_desk)
