"""Any sequence of commands, faults and crashes: nothing that bills is forgotten, and nothing of others is touched."""

from __future__ import annotations

import shutil
import tempfile
from collections import deque
from datetime import UTC, datetime, timedelta
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
from llmhost.fleet.rented.clock import Clock
from llmhost.fleet.rented.ending import end, end_orphans
from llmhost.fleet.rented.ownership import new_label
from llmhost.fleet.rented.reconcile import reconcile
from llmhost.fleet.rented.timing import RentTiming
from llmhost.fleet.rented.transaction import RentDesk
from tests.rented.conftest import a_deal, end_everything, known, try_rent
from tests.rented.memory_market import PRICE, Answer, MemoryMarket

ID = "0123456789abcdef" * 2
# As in production: its time is made up, so that every run of a sequence is the same.
TIMING = RentTiming()


class MadeUpClock(Clock):
    def __init__(self):
        self.passed = 0.0

    def now(self):
        return datetime(2026, 11, 21, tzinfo=UTC) + timedelta(seconds=self.passed)

    def monotonic(self):
        return self.passed

    def wait(self, event, seconds):
        self.passed += max(0.0, seconds)
        return event.is_set()


class Crash(BaseException):
    """The process is over: nothing more is written."""


class CrashingMarket(MemoryMarket):
    """Dies `dies_in` calls from now, before or after the call is carried out. A call takes a second."""

    dies_in = -1
    after = False

    def _step(self, call, *args):
        self.clock.passed += 1.0
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
# One list may be wrong in a command: a market that is wrong again and again cannot be found out.
lists = st.builds(
    lambda before, wrong, after: [*before, *wrong, *after],
    st.lists(st.sampled_from(["", "down"]), max_size=2),
    st.lists(st.sampled_from(["empty", "twice", "auth"]), max_size=1),
    st.lists(st.sampled_from(["", "down"]), max_size=2),
)
ends = st.lists(st.sampled_from(["fail", "lie", "done but fail", ""]), max_size=3)
crashes = st.sampled_from([-1, -1, -1, -1, 1, 2, 3, 4, 6])


class Renting(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="llmh-"))
        self.market = CrashingMarket()
        self.market.clock = MadeUpClock()
        self.nodes = 0
        self.foreign = set()
        self.lost = set()  # what the ledger need not know: another one's, and what came back from the dead
        self.ledger = Ledger.open(self.folder / "ledger.sqlite3")
        self.desk = self.new_desk()

    def new_desk(self):
        return RentDesk(self.market, self.ledger, ID, TIMING, clock=self.market.clock)

    def teardown(self):
        self.market.heal()
        self.market.dies_in = -1
        end_everything(self.desk)
        assert self.market.billing() == self.foreign
        self.ledger.close()
        shutil.rmtree(self.folder)

    def command(self, work, crash, after):
        """One command, which may die at one of its calls; the next one opens the ledger anew."""
        self.market.dies_in, self.market.after = crash, after
        try:
            work()
        except LlmhostError:
            return
        except Crash:
            self.ledger.close()
            self.ledger = Ledger.open(self.folder / "ledger.sqlite3")
            self.desk = self.new_desk()

    @initialize()
    def somebody_else_rents(self):
        self.foreign.add(self.market.foreign("somebody's"))
        self.foreign.add(self.market.foreign(new_label("f" * 32, "default", "a" * 12, 1)))

    @rule(answer=answers, listing=lists, ending=ends, crash=crashes, after=st.booleans())
    def rent(self, answer, listing, ending, crash, after):
        self.market.heal()
        self.market.answers.append(answer)
        self.market.lists, self.market.ends = deque(listing), deque(ending)
        self.command(self._rent, crash, after)

    @rule(hours=st.sampled_from([0.0, 0.01, 1.0]))
    def rent_undisturbed(self, hours):
        """So that there is something to end, and it is not always fresh."""
        self.market.heal()
        self.command(self._rent, -1, False)
        self.market.clock.passed += hours * 3600

    def _rent(self):
        self.nodes += 1
        outcome = try_rent(a_deal(node_uuid=f"{self.nodes:012x}"), self.desk)
        if not isinstance(outcome, LlmhostError):
            assert outcome.instance_id in self.market.billing()

    @precondition(lambda self: self.ledger.rentals.all(open_only=True))
    @rule(listing=lists, ending=ends, crash=crashes, after=st.booleans(), data=st.data())
    def end(self, listing, ending, crash, after, data):
        rows = self.ledger.rentals.all(open_only=True)
        chosen = data.draw(st.lists(st.sampled_from(rows), min_size=1, unique_by=lambda row: row.label))
        self.market.heal()
        self.market.lists, self.market.ends = deque(listing), deque(ending)
        self.command(lambda: self._end(chosen), crash, after)

    def _end(self, chosen):
        for ended in end(chosen, self.desk, "asked"):
            assert not ended.verified or ended.rental.instance_id not in self.market.billing()

    @rule(listing=lists, ending=ends, crash=crashes, after=st.booleans(), at_work=st.booleans())
    def reconcile(self, listing, ending, crash, after, at_work):
        self.market.heal()
        self.market.lists, self.market.ends = deque(listing), deque(ending)
        self.command(lambda: reconcile(self.desk, at_work=at_work), crash, after)

    @rule(ending=ends, crash=crashes, after=st.booleans())
    def collect_garbage(self, ending, crash, after):
        self.market.heal()
        self.market.ends = deque(ending)
        self.command(self._collect, crash, after)

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
        number = data.draw(st.sampled_from(over))
        self.market.revive(number)
        self.lost.add(number)

    @rule()
    def one_is_forgotten(self):
        """The ledger of another state directory, or a lost one."""
        self.lost.add(self.market.foreign(None, new_label(ID, "lost", "b" * 12, 1)))

    @invariant()
    def nothing_of_others_is_touched(self):
        assert self.foreign <= self.market.billing()

    @invariant()
    def what_bills_is_known(self):
        ours = [
            made.instance for made in self.market._made.values() if made.alive and made.instance.id not in self.foreign
        ]
        forgotten = {each.id for each in ours} - known(self.desk, ours) - self.lost
        assert not forgotten, f"{forgotten} bill, and the ledger does not know them"


def test_no_sequence_forgets_a_machine():
    # Bounded, and the same every time: a test that fails today must fail tomorrow.
    run_state_machine_as_test(
        Renting,
        settings=settings(
            max_examples=50,
            stateful_step_count=15,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
