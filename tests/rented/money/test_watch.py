"""The watch as a real child of a real supervisor, against the marketplace."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

from llmhost.fleet.desired import SUPERVISOR, WATCH
from llmhost.fleet.rented.vanished import BY_SOMEBODY
from llmhost.fleet.turn import try_turn
from llmhost.supervisor.launch import ensure_supervisor
from tests.rented.money.world import PATIENCE_S, stamp
from tests.support.system import wait_until


def wait_nothing_runs(rented):
    wait_until(lambda: not rented.place.children(), f"the supervisor to stop\n{rented.log()}", PATIENCE_S)


def test_what_a_dead_up_left_is_ended_and_then_nothing_runs(rented):
    booting = rented.rent("n1", state="rented", phase="booting")
    unknown = rented.rent("n2", state="unknown")
    intent = rented.rent("n3", state="intent")
    assert len(rented.bills()) == 2
    rented.watch()
    assert rented.wait_state(booting.label, "gone").why == "its up was interrupted"
    rented.wait_state(unknown.label, "gone")
    rented.wait_state(intent.label, "refused", "gone")
    assert rented.bills() == []
    wait_nothing_runs(rented)
    assert rented.server.key not in rented.log()


def test_while_somebody_is_at_work_nothing_of_theirs_is_ended_and_an_ended_lease_is(rented):
    theirs = rented.rent("n1", state="rented", phase="booting")
    old = rented.rent("n2", fleet="work")
    rented.terms("work", lease_ends_at=stamp(1.0))
    with try_turn(rented.paths) as mine:
        assert mine
        rented.watch()
        rented.wait_state(old.label, "gone")
        assert rented.rental(theirs.label).state == "rented"
        assert rented.bills() == [theirs.instance_id]
    rented.wait_state(theirs.label, "gone")  # whoever was at work died, and nobody goes on with it


def test_the_lease_ends_the_fleet_and_the_node_leaves(rented):
    rental, other = rented.rent(), rented.rent("n2", fleet="work")
    rented.terms(lease_ends_at=stamp(-6.0))
    rented.terms("work", lease_ends_at=stamp(-3600.0))
    rented.watch()
    assert rented.wait_said("lease")[0]["fleet"] == "default"
    gone = rented.wait_state(rental.label, "gone")
    assert (gone.why, rented.bills()) == ("the lease ended", [other.instance_id])
    assert gone.spent_usd is not None
    assert gone.spent_usd > 0
    assert [entry["why"] for entry in rented.wait_said("ended")] == ["the lease ended"]
    wait_until(lambda: rented.nodes() == ["n2"], "the node to leave", PATIENCE_S)
    assert rented.place.child(WATCH)["state"] == "up"


def test_each_step_of_the_budget_is_told_once_and_the_last_one_ends_it(rented, short_tmp):
    told = short_tmp / "told"
    rented.flags["alert_command"] = f'echo "$LLMHOST_ALERT_KIND $LLMHOST_ALERT_PERCENT" >> {told}; env > {told}.env'
    rental = rented.rent(ago_s=3600.0)  # $0.40 by now
    rented.terms(budget_usd=0.75)
    rented.watch()
    wait_until(told.exists, f"the first alert\n{rented.log()}", PATIENCE_S)
    rented.spend(rental, 0.62)
    rented.wait_said("budget", 2)
    assert rented.rental(rental.label).state == "ready"
    rented.spend(rental, 0.76)
    assert rented.wait_state(rental.label, "gone").why == "the budget of $0.75 is spent"
    assert rented.bills() == []
    wait_nothing_runs(rented)
    assert sorted(told.read_text().split("\n")) == ["", "budget 100", "budget 50", "budget 80", "ended "]
    environment = (told.parent / "told.env").read_text()
    assert rented.server.key not in environment
    assert "LLMHOST_ALERT_TEXT=" in environment


def test_an_alert_command_that_fails_costs_nothing_but_a_line_in_the_log(rented):
    rented.flags["alert_command"] = "echo no mail here; exit 3"
    rental = rented.rent()
    rented.terms(lease_ends_at=stamp(1.0))
    rented.watch()
    rented.wait_state(rental.label, "gone")
    wait_until(lambda: "no mail here" in rented.log(), "its failure in the log", PATIENCE_S)
    wait_nothing_runs(rented)


def test_an_idle_fleet_is_warned_of_and_ended(rented):
    rental = rented.rent(ago_s=1.0)
    rented.terms(idle_s=4.0)
    rented.watch()
    assert rented.wait_said("idle")
    assert rented.wait_state(rental.label, "gone").why == "nobody has used it"
    assert rented.bills() == []


def test_a_market_that_is_down_is_asked_until_it_answers(rented):
    rental = rented.rent()
    rented.terms(lease_ends_at=stamp(1.0))
    rented.server.pause()
    rented.watch()
    wait_until(lambda: rented.inventory().trouble, f"trouble to be recorded\n{rented.log()}", PATIENCE_S)
    wait_until(lambda: rented.rental(rental.label).state == "destroying", "its end to be written down", PATIENCE_S)
    rented.server.start()
    rented.wait_state(rental.label, "gone")
    assert rented.bills() == []
    wait_nothing_runs(rented)


def test_an_end_that_the_market_only_claims_is_repeated_until_it_is_true(rented):
    rental = rented.rent()
    rented.terms(lease_ends_at=stamp(1.0))
    rented.control.fault("pretend", "DELETE", count=2)
    rented.watch()
    rented.wait_state(rental.label, "gone")
    assert rented.bills() == []


def test_a_machine_that_somebody_destroyed_leaves_the_gateway_with_a_reason(rented):
    lost, kept = rented.rent("n1"), rented.rent("n2")
    rented.watch()
    wait_until(lambda: rented.inventory().fetched_at, "a first look", PATIENCE_S)
    rented.control.destroy(lost.instance_id)
    gone = rented.wait_state(lost.label, "gone")
    wait_until(lambda: rented.rental(lost.label).why == BY_SOMEBODY, f"a reason: {gone.why}", PATIENCE_S)
    wait_until(lambda: rented.nodes() == ["n2"], f"the node to leave\n{rented.log()}", PATIENCE_S)
    assert rented.bills() == [kept.instance_id]
    assert gone.spent_usd is not None
    assert rented.said("gone")[0]["node"] == "n1"


def test_a_node_whose_address_changed_is_led_to_the_new_one(rented):
    rental = rented.rent()
    rented.watch()

    def target():
        with rented.ledger() as ledger:
            return ledger.nodes()[0].spec["target"]

    wait_until(lambda: target()["port"] != 9, f"another address\n{rented.log()}", PATIENCE_S)
    row = next(one for one in rented.inventory().instances if one["id"] == rental.instance_id)
    assert [target()["host"], target()["port"]] in [list(row["direct"] or ()), list(row["proxy"] or ())]
    with ensure_supervisor(rented.paths, module=SUPERVISOR) as client:
        links = client.ask("wanted")["links"]
    assert [link["target"]["port"] for link in links] == [target()["port"]]


def test_a_price_that_rises_is_told_and_reckoned_with(rented):
    rental = rented.rent(price_usd_per_hour=0.05)
    rented.watch()
    (alert,) = rented.wait_said("price")
    assert alert["before_usd_per_hour"] == 0.05
    assert alert["usd_per_hour"] > 0.05
    wait_until(lambda: rented.rental(rental.label).terms, "it to be written down", PATIENCE_S)
    assert len(rented.said("price")) == 1


def test_the_watch_comes_back_after_it_was_killed_and_tells_nothing_twice(rented):
    rented.rent(ago_s=3600.0)
    rented.terms(budget_usd=0.75, lease_ends_at=stamp(-600.0))
    rented.watch()
    rented.wait_said("budget")
    rented.wait_said("lease")
    first = rented.place.child(WATCH)["pid"]
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: rented.place.child(WATCH)["pid"] not in (None, first), "another watch", PATIENCE_S)
    before = rented.inventory().fetched_at
    wait_until(lambda: rented.inventory().fetched_at != before, "its first round", PATIENCE_S)
    assert (len(rented.said("budget")), len(rented.said("lease"))) == (1, 1)


def test_the_watch_ends_with_its_supervisor(rented):
    rented.rent()
    rented.watch()
    wait_until(lambda: rented.inventory().fetched_at, "a first look", PATIENCE_S)
    pid = rented.place.child(WATCH)["pid"]
    os.kill(rented.place.supervisor_pid(), signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the watch to end", PATIENCE_S)


def test_beside_other_children_it_only_drops_itself(rented):
    from llmhost.supervisor.spec import ChildSpec

    rental = rented.rent(state="rented")
    rented.watch()
    other = ChildSpec("other", ("/bin/sleep", "1000"))
    with ensure_supervisor(rented.paths, module=SUPERVISOR) as client:
        client.ask("apply", children=[other.as_dict(), *client.ask("wanted")["children"]], keep=True)
    rented.wait_state(rental.label, "gone")
    wait_until(lambda: [one["name"] for one in rented.place.children()] == ["other"], "it to leave", PATIENCE_S)


def test_a_second_wish_for_the_same_watch_is_the_same_process(rented):
    """What `up` and the watch itself hand to the supervisor must be equal, or each change would restart it."""
    from llmhost.fleet.rented.watch import watch_spec

    rented.rent()
    rented.watch()
    pid = wait_until(lambda: rented.place.child(WATCH)["pid"], "it to run")
    rented.watch()
    assert rented.place.child(WATCH)["pid"] == pid
    with ensure_supervisor(rented.paths, module=SUPERVISOR) as client:
        running = client.wanted()
        keyless = rented.settings.model_copy(update={"vast_api_key": None})
        assert watch_spec(keyless, rented.paths, running) == running[0]
        assert rented.server.key not in " ".join(running[0].argv) + str(running[0].env)
        assert rented.server.key not in repr(replace(running[0]))
