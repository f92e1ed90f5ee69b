"""Any sequence of commands, faults and deaths: what the market bills is what `status` knows, and `down` ends it."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.rented.matrix.house import House
from tests.support.rented_stack import quick_market
from tests.support.system import poll

BRISK = {
    "LLMHOST_VAST_ATTEMPTS": "1",
    "LLMHOST_VAST_PACE": "0",
    "LLMHOST_VAST_POLL_S": "0.05",
    "LLMHOST_VAST_SETTLE_S": "0.15",
    "LLMHOST_VAST_VERIFY_S": "1.5",
    "LLMHOST_VAST_STALL_S": "0.2",
    "LLMHOST_VAST_UNPACK_STALL_S": "0.2",
    "LLMHOST_READY_TIMEOUT_S": "0.5",
}
CREATE, LIST, DESTROY = ("PUT", "/asks/"), ("GET", "/api/v1/instances/"), ("DELETE", "/instances/")
# Kinds of fault, where, and how; each goes wrong so many times and is over then.
FAULTS = [
    ("dropped", *CREATE, {"after": True}),
    ("server_error", *CREATE, {"status": 502}),
    ("server_error", *CREATE, {"status": 502, "after": True}),
    ("refused_with_contract", *CREATE, {}),
    ("no_id", *CREATE, {}),
    ("label_lost", *CREATE, {}),
    ("server_error", *LIST, {"count": 2}),
    ("duplicated", *LIST, {"count": 4}),
    ("server_error", *DESTROY, {"count": 2}),
    ("dropped", *DESTROY, {"after": True}),
    ("pretend", *DESTROY, {}),
]
SCENARIOS = ["never_leaves_loading", "dead_host", "oci_fail", "never_starts"]
made: dict[str, object] = {}


class Commanding(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.market = quick_market(scenario="never_leaves_loading", vanish_s=0.5)
        self.server = self.market.__enter__()
        self.server.market.limits.on = False
        self.house = House(self.server, made["commands"], **BRISK, XDG_CACHE_HOME=str(made["cache"]))
        self.control = self.server.control
        self.paused = False

    def teardown(self):
        try:
            self.healed()
            self.house.env["LLMHOST_VAST_VERIFY_S"] = "20"
            self.house.assert_nothing_leaks()
        finally:
            self.house.remove()
            self.market.__exit__(None, None, None)

    def healed(self):
        self.control.clear_faults()
        if self.paused:
            self.server.start()
            self.paused = False

    def done(self, *args):
        return self.house.begin("--json", *args).wait()

    @rule(count=st.sampled_from(["1", "1", "2"]), scenario=st.sampled_from(SCENARIOS))
    def up(self, count, scenario):
        self.control.plan(scenario)
        done = self.done("up", "--backend", "rehearsal", "--yes", "--count", count)
        assert done.exit_code != 1 or done.json["errors"][0]["code"] != "internal", done.stdout

    @rule(requests=st.integers(0, 9), after=st.booleans(), everything=st.booleans())
    def up_dies(self, requests, after, everything):
        """At one of its requests, before or after it is carried out; with everything else of the installation, or alone."""
        if self.paused:
            return
        slow = self.control.fault("slow", skip=requests, after=after, seconds=5)
        up = self.house.begin("--json", "up", "--backend", "rehearsal", "--yes")
        poll(lambda: slow.spent or up.ended.is_set(), 20)
        if everything:
            self.house.power_cut(up)
        else:
            up.kill()
        self.control.clear_faults()

    @rule()
    def a_fleet_serves(self):
        if not self.paused and not self.house.bills():
            self.control.clear_faults()
            self.house.env |= {"LLMHOST_VAST_STALL_S": "20", "LLMHOST_VAST_UNPACK_STALL_S": "20"}
            self.house.serve_on_paper()
            self.house.env |= BRISK

    @rule()
    def down(self):
        done = self.done("down", "--yes")
        assert done.exit_code in (0, 5, 6), done.stdout  # 5: nothing is known to bill, and nobody could be asked
        if done.exit_code == 0 and not self.paused:
            assert self.house.bills() == set()

    @rule()
    def gc(self):
        assert self.done("gc", "--yes").exit_code in (0, 5, 6)

    @rule()
    def refresh(self):
        self.done("status", "--refresh").expect()

    @rule(fault=st.sampled_from(FAULTS))
    def something_goes_wrong(self, fault):
        kind, method, path, options = fault
        self.control.fault(kind, method, path, **options)

    @rule()
    def all_is_well_again(self):
        self.healed()

    @precondition(lambda self: not self.paused)
    @rule()
    def the_market_is_gone(self):
        self.server.pause()
        self.paused = True

    @rule(seconds=st.sampled_from([10.0, 3600.0]))
    def time_passes(self, seconds):
        self.control.advance(seconds)

    @precondition(lambda self: self.house.bills())
    @rule(how=st.sampled_from(["renamed", "destroyed", "exited"]), data=st.data())
    def somebody_else_acts(self, how, data):
        number = data.draw(st.sampled_from(sorted(self.house.bills())))
        if how == "renamed":
            self.control.rename(number, "mine")
        elif how == "destroyed":
            self.control.destroy(number)
        else:
            self.control.status(number, actual_status="exited")

    @invariant()
    def what_bills_is_known(self):
        if not self.paused and all(rule.spent for rule in self.server.market.faults.rules):
            self.house.assert_known()


def test_no_sequence_of_commands_leaks(commands, bundles):
    made.update(commands=commands, cache=bundles)
    run_state_machine_as_test(
        Commanding,
        settings=settings(
            max_examples=6,
            stateful_step_count=10,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
