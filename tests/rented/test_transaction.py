"""The transaction's own rules: what is written when, what is asked again, what another offer may be tried after."""

from __future__ import annotations

import os
import signal
import sqlite3
import threading
from dataclasses import replace

import pytest

from llmhost.core.errors import Interrupted, LlmhostError, StillBilling
from llmhost.core.ledger import Ledger
from llmhost.fleet.rented.interrupts import deferred
from llmhost.fleet.rented.not_rented import NotRented
from llmhost.fleet.rented.ownership import CLAIM, known_by, new_label, ours, parse
from llmhost.fleet.rented.transaction import rent
from llmhost.providers.market import Instance
from tests.rented.conftest import BRIEF, a_deal, end_everything, try_rent
from tests.rented.memory_market import PRICE, Answer, MemoryMarket, offer

ID = "0123456789abcdef" * 2


class Looking(MemoryMarket):
    """Looks into the ledger, as another process would, in the middle of the call that may bill."""

    def rent(self, offer, order):
        with Ledger.open(self.path) as ledger:
            self.seen = ledger.rentals.get(order.label)
        return super().rent(offer, order)


def test_the_intent_is_on_disk_before_the_call_and_carries_what_a_bill_needs(desk, home):
    market = Looking()
    market.path = home.paths.ledger_file
    desk = replace(desk, market=market)
    rental = rent(a_deal(3), desk)
    seen = market.seen
    assert (seen.state, seen.instance_id, seen.offer_id, seen.machine_id) == ("intent", None, offer(3).id, 40_003)
    assert (seen.price_usd_per_hour, seen.terms, seen.gpu) == (PRICE, {"disk_gb": 60.0}, "RTX 4090")
    assert rental == desk.ledger.rentals.get(rental.label)
    assert (rental.state, {rental.instance_id}) == ("rented", market.billing())
    assert rental.rented_at >= seen.created_at


def test_label_and_claim_name_the_installation_and_the_attempt(desk, memory):
    rental = rent(a_deal(node_uuid="a1b2c3d4e5f6", fleet="coders"), desk)
    order = memory.orders[0]
    assert order.label == order.env[CLAIM] == rental.label == new_label(desk.installation, "coders", "a1b2c3d4e5f6", 1)
    assert order.env["MODE"] == "test"


def test_each_attempt_has_a_label_of_its_own(desk, memory):
    deal = a_deal()
    memory.answers.append(Answer("offer_gone", 0))
    assert isinstance(try_rent(deal, desk), NotRented)
    rent(deal, desk)
    assert [parse(order.label).attempt for order in memory.orders] == [1, 2]
    assert [row.state for row in desk.ledger.rentals.all()] == ["refused", "rented"]


@pytest.mark.parametrize(
    ("reason", "next_offer", "exit_code"),
    [
        ("offer_gone", True, 3),
        ("server", True, 5),
        ("insufficient_credit", False, 3),
        ("spend_limit", False, 3),
        ("auth", False, 4),
        ("permission", False, 4),
        ("invalid_request", False, 1),
    ],
)
def test_a_refusal_says_whether_another_offer_may_do(desk, memory, reason, next_offer, exit_code):
    memory.answers.append(Answer(reason, 0))
    error = try_rent(a_deal(), desk)
    assert (error.reason, error.next_offer, error.exit_code, error.code) == (reason, next_offer, exit_code, reason)
    assert error.hint
    assert [row.state for row in desk.ledger.rentals.all()] == ["refused"]
    assert memory.calls.count("list") >= desk.timing.settle_answers, "a refusal is believed only when the list agrees"


def test_who_is_let_in_nowhere_has_rented_nothing(desk, memory):
    memory.answers.append(Answer("auth", 0))
    memory.always_list = "auth"
    error = try_rent(a_deal(), replace(desk, timing=BRIEF))
    assert (type(error), error.exit_code) == (NotRented, 4)
    assert [row.state for row in desk.ledger.rentals.all()] == ["refused"]


def test_a_key_that_is_refused_only_after_the_answer_was_lost_proves_nothing(desk, memory):
    memory.answers.append(Answer("unknown"))
    memory.always_list = "auth"
    error = try_rent(a_deal(), replace(desk, timing=BRIEF))
    assert (type(error), error.code) == (StillBilling, "rent_unsettled")
    assert "llmhost" in error.hint
    memory.heal()
    end_everything(desk)
    assert memory.billing() == set()


def test_too_many_requests_are_asked_again_for_the_same_offer_under_a_fresh_label(desk, memory):
    memory.answers.extend([Answer("rate_limited", 0, retry_after_s=0.05), Answer("rate_limited", 0), Answer()])
    rental = rent(a_deal(2), desk)
    assert rental.offer_id == offer(2).id
    assert len({order.label for order in memory.orders}) == 3
    assert [row.state for row in desk.ledger.rentals.all()] == ["refused", "refused", "rented"]


def test_too_many_requests_are_not_asked_for_ever(desk, memory):
    memory.answers.extend([Answer("rate_limited", 0)] * 9)
    error = try_rent(a_deal(), desk)
    assert (error.reason, error.next_offer, error.exit_code) == ("rate_limited", False, 5)
    assert memory.calls.count("rent") == 3


def test_a_market_that_wants_us_to_wait_for_minutes_is_not_waited_for(desk, memory):
    memory.answers.append(Answer("rate_limited", 0, retry_after_s=300.0))
    assert try_rent(a_deal(), desk).reason == "rate_limited"
    assert memory.calls.count("rent") == 1


def test_a_machine_that_costs_more_than_agreed_is_ended_and_billed(desk, memory):
    memory.answers.append(Answer(price=PRICE * 1.5))
    error = try_rent(a_deal(), desk)
    assert (error.code, error.next_offer, error.exit_code) == ("price_rose", True, 3)
    assert memory.billing() == set()
    row = desk.ledger.rentals.all()[0]
    assert (row.state, row.price_usd_per_hour) == ("gone", pytest.approx(PRICE * 1.5))
    assert row.spent_usd >= 0


def test_a_machine_that_costs_less_is_kept_at_what_it_really_costs(desk, memory):
    memory.answers.append(Answer(price=0.3))
    assert rent(a_deal(), desk).price_usd_per_hour == pytest.approx(0.3)


def test_the_lowest_of_several_machines_is_kept_and_each_has_a_row(desk, memory):
    memory.answers.append(Answer("unknown", 3))
    rental = rent(a_deal(), desk)
    assert memory.billing() == {rental.instance_id}
    rows = {row.instance_id: row for row in desk.ledger.rentals.all()}
    assert sorted(rows)[0] == rental.instance_id
    assert [rows[number].state for number in sorted(rows)] == ["rented", "gone", "gone"]


def test_an_order_that_is_not_sent_is_told_as_such(desk):
    class Refusing(MemoryMarket):
        def rent(self, offer, order):
            raise LlmhostError("the order contains a secret.", code="secret_in_order")

    error = try_rent(a_deal(), replace(desk, market=Refusing()))
    assert error.code == "secret_in_order"
    assert [row.state for row in desk.ledger.rentals.all()] == ["refused"]


# ── the ledger ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_rented_while_the_ledger_is_locked(desk, memory, home):
    other = sqlite3.connect(home.paths.ledger_file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    error = try_rent(a_deal(), desk)
    other.close()
    assert error.code == "state_unwritable"
    assert memory.orders == []


def test_nothing_is_rented_when_the_ledger_is_damaged(desk, memory, home):
    desk.ledger.close()
    home.paths.ledger_file.write_bytes(b"not a database" * 100)
    with pytest.raises(LlmhostError, match="damaged"):
        Ledger.open(home.paths.ledger_file)
    error = try_rent(a_deal(), desk)
    assert error.code in ("ledger_corrupt", "state_unwritable")
    assert memory.orders == []


def test_nothing_is_rented_when_the_ledger_was_cut_off(desk, memory, home):
    rent(a_deal(1), desk)
    desk.ledger.close()
    size = home.paths.ledger_file.stat().st_size
    os.truncate(home.paths.ledger_file, size // 2)
    with pytest.raises(LlmhostError) as caught, Ledger.open(home.paths.ledger_file) as ledger:
        rent(a_deal(2), replace(desk, ledger=ledger))
    assert caught.value.code in ("ledger_corrupt", "state_unwritable")
    assert len(memory.orders) == 1


def test_nothing_is_rented_when_the_ledger_cannot_be_written(desk, memory, home):
    uri = f"{home.paths.ledger_file.as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    with Ledger(home.paths.ledger_file, connection) as ledger:
        error = try_rent(a_deal(), replace(desk, ledger=ledger))
    assert error.code == "state_unwritable"
    assert memory.orders == []


class Locking(MemoryMarket):
    """The ledger is locked from the moment on at which the machine is rented."""

    def rent(self, offer, order):
        answer = super().rent(offer, order)
        self.other = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
        self.other.execute("BEGIN IMMEDIATE")
        return answer


@pytest.fixture
def impatient(desk):
    """A ledger that waits for nobody."""
    desk.ledger._connection.execute("PRAGMA busy_timeout = 20")
    return desk


@pytest.mark.parametrize("answer", [Answer(), Answer("unknown"), Answer("server", 0), Answer("server+id")])
def test_what_cannot_be_written_down_is_ended_at_once(impatient, home, answer):
    market = Locking()
    market.path = home.paths.ledger_file
    market.answers.append(answer)
    error = try_rent(a_deal(), replace(impatient, market=market))
    market.other.close()
    assert isinstance(error, LlmhostError)
    assert market.billing() == set()
    assert [row.state for row in impatient.ledger.rentals.all()] == ["intent"], "the next command looks again"
    end_everything(replace(impatient, market=market))


# ── several at once ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_several_threads_rent_over_one_ledger_without_losing_any(desk, memory):
    memory.answers.extend(
        [Answer("unknown"), Answer(), Answer("offer_gone", 0), Answer("server"), Answer(), Answer("unknown", 2)]
    )
    results = []
    threads = [
        threading.Thread(target=lambda number=number: results.append(try_rent(a_deal(number), desk)))
        for number in range(6)
    ]
    with deferred():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    rented = [each for each in results if not isinstance(each, LlmhostError)]
    assert len(rented) == 5
    assert memory.billing() == {each.instance_id for each in rented}
    end_everything(desk)
    assert memory.billing() == set()


def test_a_thread_begins_nothing_once_the_main_thread_was_interrupted(desk, memory):
    results = []
    thread = threading.Thread(target=lambda: results.append(try_rent(a_deal(), desk)))

    def interrupted():
        with deferred():
            signal.raise_signal(signal.SIGINT)
            thread.start()
            thread.join(60)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [type(each) for each in results] == [Interrupted]
    assert (memory.orders, desk.ledger.rentals.all()) == ([], [])


# ── whose it is ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "somebody's",
        "llmhost/1/short/f/a1b2c3d4e5f6/1",
        f"llmhost/2/{ID}/f/a1b2c3d4e5f6/1",
        f"llmhost/1/{ID}/f/a1b2c3d4e5f6/1/more",
        f"llmhost/1/{ID}/f/a1b2c3d4e5f6/x",
    ],
)
def test_what_no_llmhost_wrote_is_nobodys(text):
    assert parse(text) is None
    assert ours(Instance(1, text, text), ID) is None


def test_ours_is_told_by_label_or_by_claim():
    label = new_label(ID, "default", "a1b2c3d4e5f6", 2)
    assert len(label) <= 256
    assert parse(label).text == label
    for instance in (Instance(1, label), Instance(1, "renamed", label), Instance(1, None, label)):
        assert ours(instance, ID).attempt == 2
        assert known_by(instance, label)
        assert ours(instance, "f" * 32) is None
