"""Any sequence of commands, faults and crashes: nothing that bills is forgotten, and nothing of others is touched."""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger
from llmhost.fleet.rented.ending import end, end_orphans
from llmhost.fleet.rented.ownership import CLAIM, new_label, ours
from llmhost.fleet.rented.reconcile import reconcile
from llmhost.fleet.rented.timing import RentTiming
from llmhost.fleet.rented.transaction import RentDesk
from tests.rented.conftest import a_deal, end_everything, try_rent
from tests.rented.memory_market import PRICE, Answer, MemoryMarket

ID = "0123456789abcdef" * 2
# Short, because a market that lies is asked until the time is over.
TIMING = RentTiming(settle_s=0.02, settle_answers=2, poll_s=0.005, verify_s=0.08, pace=0.0, write_timeout_s=0.005)
# In the end all is well, and a loaded computer may take its time.
PATIENT = RentTiming(settle_s=0.02, settle_answers=2, poll_s=0.005, verify_s=20.0, pace=0.0, write_timeout_s=0.005)


class Crash(BaseException):
    """The process is over: nothing more is written."""


class CrashingMarket(MemoryMarket):
    """Dies `dies_in` calls from now, before or after the call is carried out."""

    dies_in = -1
    after = False

    def _step(self, call, *args):
        self.dies_in -= 1
        dies = self.dies_in == 0
        if dies and not self.after:
            raise Crash
        result = call(*args)
        if dies:
            raise Crash
        return result

    def rent(self, offer, order):
        return self._step(super().rent, offer, order)

    def instances(self):
        return self._step(super().instances)

    def destroy(self, instance_id):
        return self._step(super().destroy, instance_id)


SAID = ["ok", "unknown", "server", "offer_gone", "auth", "invalid_request", "server+id", "invalid_request+id", "raises"]
answers = st.builds(
    Answer,
    said=st.sampled_from(SAID),
    makes=st.sampled_from([1, 1, 0, 2]),
    price=st.sampled_from([None, None, PRICE * 2]),
    labelled=st.booleans(),
).map(lambda each: Answer(each.said, 1, each.price, each.labelled) if each.said == "ok" or "+" in each.said else each)
lists = st.lists(st.sampled_from(["", "", "down", "twice", "empty", "auth"]), max_size=5)
ends = st.lists(st.sampled_from(["", "fail", "done but fail", "lie"]), max_size=4)
crashes = st.sampled_from([-1, -1, 1, 2, 3, 4, 6])


class Renting(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="llmh-"))
        self.market = CrashingMarket()
        self.foreign = set()
        self.ledger = Ledger.open(self.folder / "ledger.sqlite3")
        self.desk = RentDesk(self.market, self.ledger, ID, TIMING)

    def teardown(self):
        self.market.heal()
        self.market.dies_in = -1
        end_everything(RentDesk(self.market, self.ledger, ID, PATIENT))
        assert self.market.billing() == self.foreign
        self.ledger.close()
        shutil.rmtree(self.folder)

    def run(self, work, crash, after):
        """One command, which may die at one of its calls; the next one opens the ledger anew."""
        self.market.dies_in, self.market.after = crash, after
        try:
            work()
        except LlmhostError:
            return
        except Crash:
            self.ledger.close()
            self.ledger = Ledger.open(self.folder / "ledger.sqlite3")
            self.desk = RentDesk(self.market, self.ledger, ID, TIMING)

    @initialize()
    def somebody_else_rents(self):
        self.foreign.add(self.market.foreign("somebody's"))
        self.foreign.add(self.market.foreign(new_label("f" * 32, "default", "a" * 12, 1)))

    @rule(answer=answers, listing=lists, ending=ends, crash=crashes, after=st.booleans())
    def rent(self, answer, listing, ending, crash, after):
        self.market.heal()
        self.market.answers.append(answer)
        self.market.lists, self.market.ends = deque(listing), deque(ending)
        self.run(lambda: self._rent(), crash, after)

    def _rent(self):
        outcome = try_rent(a_deal(), self.desk)
        if not isinstance(outcome, LlmhostError):
            assert outcome.instance_id in self.market.billing()

    @rule(listing=lists, ending=ends, crash=crashes, after=st.booleans(), data=st.data())
    def end(self, listing, ending, crash, after, data):
        rows = self.ledger.rentals.all(open_only=True)
        chosen = data.draw(st.lists(st.sampled_from(rows), unique_by=lambda row: row.label)) if rows else []
        self.market.heal()
        self.market.lists, self.market.ends = deque(listing), deque(ending)
        self.run(lambda: self._end(chosen), crash, after)

    def _end(self, chosen):
        for ended in end(chosen, self.desk, "asked"):
            assert not ended.verified or ended.rental.instance_id not in self.market.billing()

    @rule(listing=lists, ending=ends, crash=crashes, after=st.booleans(), at_work=st.booleans())
    def reconcile(self, listing, ending, crash, after, at_work):
        self.market.heal()
        self.market.lists, self.market.ends = deque(listing), deque(ending)
        self.run(lambda: reconcile(self.desk, at_work=at_work), crash, after)

    @rule(ending=ends, crash=crashes, after=st.booleans())
    def collect_garbage(self, ending, crash, after):
        self.market.heal()
        self.market.ends = deque(ending)
        self.run(self._collect, crash, after)

    def _collect(self):
        end_orphans([orphan.instance for orphan in reconcile(self.desk).orphans], self.desk)

    @precondition(lambda self: self.market.billing() - self.foreign)
    @rule(how=st.sampled_from(["rename", "vanish"]), data=st.data())
    def somebody_changes_ours(self, how, data):
        number = data.draw(st.sampled_from(sorted(self.market.billing() - self.foreign)))
        if how == "vanish":
            self.market.vanish(number)
        else:
            self.market.change(number, label="renamed")

    @precondition(lambda self: any(row.instance_id for row in self.ledger.rentals.all() if not row.is_open))
    @rule(data=st.data())
    def one_comes_back(self, data):
        over = sorted({row.instance_id for row in self.ledger.rentals.all() if not row.is_open and row.instance_id})
        self.market.revive(data.draw(st.sampled_from(over)))

    @rule()
    def one_is_forgotten(self):
        """The ledger of another state directory, or a lost one."""
        label = new_label(ID, "lost", "b" * 12, 1)
        assert ours(self.market._made[self.market.foreign(None, label)].instance, ID)

    @invariant()
    def nothing_of_others_is_touched(self):
        assert self.foreign <= self.market.billing()

    @invariant()
    def what_bills_is_known_or_recognised(self):
        rows = self.ledger.rentals.all()
        ids = {row.instance_id for row in rows}
        for number in self.market.billing() - self.foreign - ids:
            assert ours(self.market._made[number].instance, ID), f"{number} is forgotten ({CLAIM})"


def test_no_sequence_forgets_a_machine():
    # Bounded, and the same every time: a test that fails today must fail tomorrow.
    run_state_machine_as_test(
        Renting,
        settings=settings(
            max_examples=40,
            stateful_step_count=12,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
