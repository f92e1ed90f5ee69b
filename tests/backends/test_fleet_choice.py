"""Where a conversation belongs, where it goes, and when a node is left alone: the fleet's rules, without any network."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.backends.fleet.affinity import ACTIVE_S, Placements, conversation_key, ranked
from llmhost.backends.fleet.breaker import LONGEST_PAUSE_S, Breaker
from llmhost.backends.fleet.router import Fitness, NodeView, choose
from llmhost.backends.fleet.watch import LONGEST_ETA_S, load_eta
from llmhost.core.server_config import Timing

EIGHT = [f"n{number}" for number in range(1, 9)]
KEYS = [f"session-{number}".encode() for number in range(4000)]
READY, BROKEN, FAILED, NONE = Fitness.READY, Fitness.BROKEN, Fitness.FAILED, Fitness.NONE


def first(key: bytes, nodes: list[str] = EIGHT) -> str:
    return ranked(key, nodes)[0]


def test_conversations_are_spread_evenly_over_eight_nodes():
    counts = Counter(first(key) for key in KEYS)
    assert set(counts) == set(EIGHT)
    assert max(counts.values()) < 1.25 * len(KEYS) / 8
    assert min(counts.values()) > 0.75 * len(KEYS) / 8


@pytest.mark.parametrize("gone", EIGHT)
def test_only_the_conversations_of_a_node_that_goes_move(gone):
    left = [node for node in EIGHT if node != gone]
    for key in KEYS[:500]:
        assert first(key, left) == (first(key) if first(key) != gone else ranked(key, EIGHT)[1])


def test_those_of_a_node_that_goes_are_spread_over_all_others():
    left = EIGHT[1:]
    assert set(Counter(first(key, left) for key in KEYS if first(key) == "n1")) == set(left)


def test_the_order_is_the_same_in_another_process():
    program = (
        "from llmhost.backends.fleet.affinity import ranked; print(*ranked(b'a session', ['n1', 'n2', 'n3', 'n4']))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.split() == ranked(b"a session", ["n1", "n2", "n3", "n4"])


def test_a_subagent_is_a_conversation_of_its_own():
    assert len({conversation_key("s", None), conversation_key("s", "a"), conversation_key("s", "b")}) == 3
    assert conversation_key(None, "a") is None


def test_the_least_recently_heard_of_placement_is_forgotten():
    placements = Placements(kept=2)
    placements.put("a", "n1")
    placements.put("b", "n2")
    assert placements.of("a") == "n1"
    placements.put("c", "n3")
    assert (placements.of("a"), placements.of("b"), len(placements)) == ("n1", None, 2)


def test_conversations_count_for_a_node_while_something_is_heard_of_them():
    now = [0.0]
    placements = Placements(clock=lambda: now[0])
    for number in range(3):
        placements.put(f"talk-{number}", "n1")
    now[0] += ACTIVE_S
    placements.put("late", "n2")
    assert placements.active() == {"n1": 3, "n2": 1}
    now[0] += 1
    assert placements.of("talk-1") == "n1"
    assert placements.active() == {"n1": 1, "n2": 1}
    placements.keep_only({"n2"})
    assert (placements.of("talk-1"), placements.of("late")) == (None, "n2")


@pytest.mark.parametrize("parallel", [1, 2, 3])
@pytest.mark.parametrize("start", range(0, 900, 9))
def test_nine_conversations_leave_none_of_three_nodes_idle(start, parallel):
    nodes = [NodeView(id, READY, parallel=parallel) for id in ("n1", "n2", "n3")]
    placements = Placements()
    for key in KEYS[start : start + 9]:
        placements.put(key.decode(), choose(nodes, key, active=placements.active()).order[0])
    counts = placements.active()
    assert set(counts) == {"n1", "n2", "n3"}
    assert max(counts.values()) - min(counts.values()) <= parallel


def views(**loads: int) -> list[NodeView]:
    return [NodeView(id, READY, in_flight) for id, in_flight in loads.items()]


def key_of(id: str, *others: str) -> bytes:
    return next(key for key in KEYS if first(key, [id, *others]) == id)


KEY = key_of("n1", "n2", "n3")


def test_a_conversation_goes_where_it_belongs():
    assert choose(views(n1=0, n2=0, n3=0), KEY).order[0] == "n1"


def test_a_new_one_avoids_a_full_node_while_another_has_room():
    assert choose(views(n1=1, n2=1, n3=0), KEY).order[0] == "n3"
    assert choose(views(n1=2, n2=1, n3=1), KEY).order[0] == "n1"
    wide = [NodeView("n1", READY, 3, 4), NodeView("n2", READY, 0, 4)]
    assert choose(wide, key_of("n1", "n2")).order[0] == "n1"


def test_a_placed_one_waits_for_its_own_node():
    assert choose(views(n1=0, n2=5, n3=0), KEY, placed="n2").order[0] == "n2"


def test_a_placement_on_a_node_that_is_gone_counts_for_nothing():
    assert choose(views(n1=0, n2=0), KEY, placed="n9").order[0] == "n1"


def test_without_a_conversation_the_least_busy_for_its_size_is_first():
    nodes = [NodeView("n1", READY, 1, 1), NodeView("n2", READY, 2, 4), NodeView("n3", READY, 3, 4)]
    assert choose(nodes, KEY, bound=False).order == ("n2", "n3", "n1")
    starts = Counter(choose(views(n1=0, n2=0), key, bound=False).order[0] for key in KEYS[:100])
    assert min(starts["n1"], starts["n2"]) > 20


def test_what_failed_this_request_is_not_asked_again():
    assert choose(views(n1=0, n2=0, n3=0), KEY, placed="n1", spent={"n1"}).order[0] != "n1"
    assert choose(views(n1=0), KEY, spent={"n1"}).order == ()


def test_worse_nodes_are_asked_only_where_no_better_one_is():
    nodes = [NodeView("n1", BROKEN), NodeView("n2", READY), NodeView("n3", FAILED)]
    assert choose(nodes, KEY).order == ("n2",)
    assert choose(nodes, KEY, spent={"n2"}).order == ()
    assert choose([nodes[0], nodes[2]], KEY).order == ("n1",)
    assert choose([nodes[2]], KEY).order == ("n3",)
    assert choose([NodeView("n1", NONE)], KEY).order == ()


def test_a_failed_engine_is_not_asked_while_another_node_may_come_back():
    assert choose([NodeView("n1", FAILED), NodeView("n2", NONE, hopeful=True)], KEY).order == ()


def test_only_the_conversation_s_own_node_is_waited_for():
    nodes = [NodeView("n1", NONE, returning=True, hopeful=True), NodeView("n2", READY)]
    assert choose(nodes, KEY, placed="n1").wait
    assert not choose(nodes, KEY, placed="n2").wait
    assert not choose(nodes, KEY).wait
    assert not choose(nodes, KEY, placed="n1", spent={"n1"}).wait


@given(
    st.lists(
        st.builds(
            NodeView,
            st.sampled_from(EIGHT),
            st.sampled_from(list(Fitness)),
            st.integers(0, 9),
            st.integers(1, 4),
            st.booleans(),
            st.booleans(),
        ),
        unique_by=lambda node: node.id,
    ),
    st.binary(max_size=20),
    st.sampled_from([None, *EIGHT]),
    st.booleans(),
    st.sets(st.sampled_from(EIGHT)),
)
def test_the_order_holds_each_fit_node_once_and_no_other(nodes, key, placed, bound, spent):
    choice = choose(nodes, key, placed=placed, bound=bound, spent=spent)
    by_id = {node.id: node for node in nodes}
    assert len(set(choice.order)) == len(choice.order)
    assert not set(choice.order) & spent
    assert all(by_id[id].fitness is not NONE for id in choice.order)
    assert len({by_id[id].fitness for id in choice.order}) <= 1
    ready = {node.id for node in nodes if node.fitness is READY}
    assert set(choice.order) == ready - spent or not ready


def test_a_load_is_expected_to_take_as_long_as_the_last_one():
    assert load_eta(10, last=30, told=10) == 20
    assert load_eta(29.9, last=30, told=10) == 1


def test_a_load_that_takes_longer_is_asked_for_ever_less_often():
    """Claude Code asks ten times; the longest load, of 15 minutes, must not be given up before its end."""
    assert load_eta(31, last=30, told=10) == 15.5
    assert load_eta(4, last=None, told=10) == 10
    assert load_eta(400, last=None, told=10) == LONGEST_ETA_S
    elapsed = 0.0
    for _ in range(11):
        elapsed += Timing().hold
        elapsed += load_eta(elapsed, last=None, told=10)
    assert elapsed > 600


def broken(breaker: Breaker, *at: float) -> Breaker:
    for now in at:
        breaker.failed(now, now)
    return breaker


def test_the_breaker_opens_after_failures_in_a_row():
    breaker = broken(Breaker(), 1, 2)
    assert breaker.state(2) == "closed"
    breaker.succeeded()
    broken(breaker, 3, 4)
    assert breaker.allows(4)
    broken(breaker, 5)
    assert (breaker.state(5), breaker.allows(5)) == ("open", False)


def test_after_a_pause_one_trial_decides():
    breaker = broken(Breaker(pause_s=5), 1, 2, 3)
    assert breaker.state(8) == "half_open"
    assert breaker.allows(8)
    breaker.begin(8)
    assert not breaker.allows(8.1)
    breaker.failed(8, 9)
    assert breaker.state(18.9) == "open"  # twice as long
    breaker.begin(19)
    breaker.succeeded()
    assert breaker.state(19) == "closed"


def test_a_trial_whose_client_left_lets_the_next_one_in():
    breaker = broken(Breaker(pause_s=5), 1, 2, 3)
    breaker.begin(8)
    breaker.abandoned(8)
    assert breaker.allows(8.1)


def test_many_requests_that_break_at_once_are_one_failure():
    breaker = Breaker()
    for began in range(20):
        breaker.failed(began, 30)
    assert breaker.allows(30)


def test_the_pause_has_a_limit():
    breaker = broken(Breaker(pause_s=5), 1, 2, 3)
    now = 3.0
    for _ in range(20):
        now += LONGEST_PAUSE_S
        assert breaker.allows(now)
        breaker.begin(now)
        breaker.failed(now, now)
