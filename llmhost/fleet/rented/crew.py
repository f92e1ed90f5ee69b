"""Several machines brought up at once, so that the first failure, or Ctrl-C, lets the others stop soon, and none of them is left behind."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from llmhost.core.errors import LlmhostError
from llmhost.fleet.rented.interrupts import Interrupts
from llmhost.fleet.together import SeveralFailed

T = TypeVar("T")
R = TypeVar("R")
LOOK_UP_S = 0.1
STOPPED = "stopped_with_others"


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What became of one: its result, or why there is none."""

    result: R | None = None
    error: BaseException | None = None


def stopped() -> LlmhostError:
    """Why one did not go on: another one failed, or the user wants no more of it."""
    return LlmhostError("it was stopped because another one failed.", code=STOPPED)


def bring_up(
    items: Sequence[T], work: Callable[[T], R], stop: threading.Event, interrupts: Interrupts, abort: Callable[[], None]
) -> list[R]:
    """What `work` made of each item, in their order, once every thread is through.

    The first failure or signal sets `stop` and calls `abort`, which should make the others end soon; they are waited for, because one of
    them may be finding out whether it rented something. Raises what failed (SeveralFailed when several did), Interrupted.
    """
    done: queue.SimpleQueue[tuple[int, Outcome[R]]] = queue.SimpleQueue()

    def run(index: int) -> None:
        try:
            done.put((index, Outcome(work(items[index]))))
        except BaseException as error:  # noqa: BLE001 - a thread's exception is the caller's
            done.put((index, Outcome(error=error)))

    for index in range(len(items)):
        threading.Thread(target=run, args=(index,), name=f"rent-{index}", daemon=True).start()
    outcomes = _gathered(len(items), done, stop, interrupts, abort)
    interrupts.check()
    return _results(outcomes)


def _gathered(
    count: int,
    done: queue.SimpleQueue[tuple[int, Outcome[R]]],
    stop: threading.Event,
    interrupts: Interrupts,
    abort: Callable[[], None],
) -> list[Outcome[R]]:
    found: dict[int, Outcome[R]] = {}
    while len(found) < count:
        try:
            index, outcome = done.get(timeout=LOOK_UP_S)
            found[index] = outcome
        except queue.Empty:
            outcome = Outcome()
        if (outcome.error is not None or interrupts.asked.is_set()) and not stop.is_set():
            stop.set()
            abort()
    return [found[index] for index in range(count)]


def _results(outcomes: list[Outcome[R]]) -> list[R]:
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    strange = next((error for error in errors if not isinstance(error, LlmhostError)), None)
    if strange is not None:
        raise strange
    told = [error for error in errors if isinstance(error, LlmhostError)]
    reasons = [error for error in told if error.code != STOPPED] or told
    if reasons:
        raise reasons[0] if len(reasons) == 1 else SeveralFailed(reasons)
    return [outcome.result for outcome in outcomes if outcome.result is not None]
