"""What became of an attempt to rent that nobody answered for: asked of the market's own list (vast facts §4.2 step 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmhost.core.errors import AuthenticationNeeded, LlmhostError
from llmhost.core.rentals import Rental
from llmhost.fleet.rented import claims
from llmhost.fleet.rented.desk import RentDesk, once_each
from llmhost.fleet.rented.ending import end
from llmhost.providers.market import Instance

NOTHING = "nothing was rented"


@dataclass(slots=True)
class _Question:
    """One attempt. `until` is when the market's list can no longer lag behind it (monotonic); `clean` are the answers without it."""

    rental: Rental
    until: float
    clean: int = 0
    done: bool = False


@dataclass(slots=True)
class Settled:
    """`rental` is rented, refused or, when the market did not answer, unknown; `forbidden` = it let nobody ask."""

    rental: Rental
    instance: Instance | None = None
    forbidden: bool = False


def settle(rental: Rental, desk: RentDesk) -> Rental:
    """Find out about one `intent` or `unknown`: it is rented, refused, or (no answer) unknown after this.

    A second machine of the same order is ended. Raises what the ledger raises, and Interrupted.
    """
    return settle_all([rental], desk)[0].rental


def settle_all(rentals: Sequence[Rental], desk: RentDesk, *, just_now: bool = False) -> list[Settled]:
    """`settle` for several over one series of lists, in their order. `just_now` = their calls have ended this moment, by no clock of the
    wall, which may be set."""
    started = heard_at = desk.clock.monotonic()
    window = desk.timing.settle_s
    questions = [_Question(one, started + (window if just_now else desk.lag_left_s(one))) for one in rentals]
    results = {rental.label: Settled(rental) for rental in rentals}
    refusals = 0
    while open_ones := [one for one in questions if not one.done and not desk.is_anothers(one.rental)]:
        asked_at = desk.clock.monotonic()
        instances, forbidden = _ask(desk)
        refusals = refusals + 1 if forbidden else 0
        heard_at = heard_at if instances is None else desk.clock.monotonic()
        for question in open_ones:
            results[question.rental.label].forbidden = forbidden
            if instances is not None:
                _answer(question, instances, asked_at, results[question.rental.label], desk)
        if all(question.done for question in questions) or refusals >= desk.timing.settle_answers:
            break
        if _given_up(started, heard_at, desk):
            break
        desk.pause(desk.timing.settle_every_s)
    for question in questions:
        if not question.done:
            results[question.rental.label].rental = desk.move(
                question.rental, "unknown", why="the market did not answer"
            )
    return [results[rental.label] for rental in rentals]


def _ask(desk: RentDesk) -> tuple[list[Instance] | None, bool]:
    try:
        return once_each(desk.market.instances()), False
    except AuthenticationNeeded:
        return None, True
    except LlmhostError:
        return None, False


def _answer(question: _Question, instances: list[Instance], asked_at: float, result: Settled, desk: RentDesk) -> None:
    found = claims.hits(question.rental, instances, desk.ledger.rentals.all())
    if found:
        result.rental, seconds = claims.adopt(question.rental, found, desk)
        result.instance = next((each for each in found if each.id == result.rental.instance_id), None)
        question.done = True
        _end_seconds(seconds, desk)
        return
    question.clean += 1
    if question.clean >= desk.timing.settle_answers and asked_at >= question.until:
        result.rental = desk.move(question.rental, "refused", why=NOTHING, ended_at=desk.stamp())
        question.done = True


def _end_seconds(seconds: list[Rental], desk: RentDesk) -> None:
    for ended in end(seconds, desk, "a second machine for one order"):
        if ended.error is not None:
            desk.progress.note(ended.error.message)


def _given_up(started: float, heard_at: float, desk: RentDesk) -> bool:
    """Some answers, but too few, are worth waiting for the rest of them: a list of a thousand machines takes its time."""
    timing = desk.timing
    since = heard_at if timing.patience_s is None else started
    return desk.clock.monotonic() >= since + timing.settle_patience_s
