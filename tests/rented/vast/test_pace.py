"""The pace of calls, by the real clock at a hundredth of its length."""

import itertools
import threading
import time

import pytest

from llmhost.providers.vast import pace
from llmhost.providers.vast.pace import Pace


def take(turns, endpoint, spent=0.0):
    with turns.turn(endpoint):
        started = time.monotonic()
        time.sleep(spent)
    return started


def test_an_endpoint_waits_for_its_interval():
    turns = Pace(0.05)
    first = take(turns, "create")
    assert take(turns, "create") - first >= 4.5 * 0.05


def test_no_other_endpoint_waits_for_it():
    turns = Pace(10.0)
    assert take(turns, "create") - take(turns, "list") < 10.0


def test_the_next_call_waits_from_the_end_of_a_short_one():
    turns = Pace(0.05)
    first = take(turns, "destroy", spent=0.1)
    assert take(turns, "destroy") - first >= 0.1 + 3.0 * 0.05


def test_a_call_that_hangs_does_not_hold_up_the_others():
    turns, leave, inside = Pace(0.01), threading.Event(), threading.Event()

    def hang():
        with turns.turn("create"):
            inside.set()
            leave.wait(20)

    thread = threading.Thread(target=hang)
    thread.start()
    assert inside.wait(20)
    take(turns, "create")
    assert not leave.is_set()
    leave.set()
    thread.join()


def test_many_threads_take_their_turns_one_by_one():
    turns, taken = Pace(0.02), []
    threads = [threading.Thread(target=lambda: taken.append(take(turns, "list"))) for _ in range(6)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    taken.sort()
    assert all(later - sooner >= 0.02 - 0.001 for sooner, later in itertools.pairwise(taken))


def test_no_more_than_eight_searches_a_minute():
    turns = Pace(0.01)
    taken = [take(turns, "search") for _ in range(10)]
    assert taken[8] - taken[0] >= 0.6


def test_eight_searches_need_not_wait():
    turns = Pace(1.0)
    taken = [take(turns, "search") for _ in range(8)]
    assert taken[-1] - taken[0] < 30


@pytest.mark.parametrize(
    ("told", "wait"),
    [(None, 4.5 + 12.0), (2.0, 4.5), (30.0, 30.0), (300.0, 300.0)],
    ids=["table", "short", "long", "too long"],
)
def test_after_a_refusal_an_endpoint_is_closed_as_long_as_the_market_says_within_bounds(told, wait):
    turns = Pace(1.0)
    assert turns.too_soon("create", told) == wait
    assert turns.closed_s("create") == pytest.approx(min(wait, 60.0), abs=1.0)


def test_a_process_has_one_pace_for_an_account(tmp_path):
    assert pace.shared("one", tmp_path, 1.0) is pace.shared("one", tmp_path, 1.0)
    assert pace.shared("one", tmp_path, 1.0) is not pace.shared("another", tmp_path, 1.0)


def test_without_a_factor_nothing_waits():
    turns = Pace(0.0)
    started = time.monotonic()
    for _ in range(50):
        take(turns, "create")
        take(turns, "search")
    assert time.monotonic() - started < 4.5
