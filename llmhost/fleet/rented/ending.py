"""Ending what is rented, and making sure of it: only the market's own list proves that nothing bills (vast facts §4.2 step 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmhost.core.errors import LlmhostError, StillBilling
from llmhost.core.rentals import Rental
from llmhost.fleet.rented import claims
from llmhost.fleet.rented.desk import RentDesk, once_each
from llmhost.fleet.rented.farewell import Farewell
from llmhost.providers.market import Instance

CONSOLE = "https://cloud.vast.ai/instances/"


@dataclass(frozen=True, slots=True)
class Ended:
    """`verified` = the market lists it no more. `error`: StillBilling when it may bill; a ledger's when only that is behind."""

    rental: Rental
    verified: bool
    error: LlmhostError | None = None


def end(rentals: Sequence[Rental], desk: RentDesk, why: str) -> list[Ended]:
    """End all of them over one series of lists; the results in their order. Nothing is raised for what the market does.

    One that is still listed, or cannot be asked for, after `verify_s` stays `destroying` (an attempt whose machine was never found
    `unknown`). Raises Interrupted when the user insists.
    """
    if not rentals:
        return []
    work = [_farewell(rental, desk, why) for rental in rentals]
    for farewell in work:
        farewell.begin(desk)
    deadline = desk.clock.monotonic() + desk.timing.verify_s
    while any(not farewell.gone for farewell in work):
        for farewell in list(work):
            farewell.push(desk)
        trouble = _look(work, desk)
        if all(farewell.gone for farewell in work) or desk.clock.monotonic() >= deadline:
            break
        desk.pause(desk.timing.verify_every_s)
    else:
        trouble = None
    return [_ended(farewell, trouble, desk) for farewell in work[: len(rentals)]]


def end_orphan(instance: Instance, desk: RentDesk) -> Ended:
    """End a machine that is ours and has no row of its own: it gets one first. As `end`."""
    return end_orphans([instance], desk)[0]


def end_orphans(instances: Sequence[Instance], desk: RentDesk) -> list[Ended]:
    """`end_orphan` for several over one series of lists, in their order. Raises what the ledger raises, before anything is done."""
    return end([claims.remember_orphan(instance, desk) for instance in instances], desk, "an orphan")


def _farewell(rental: Rental, desk: RentDesk, why: str) -> Farewell:
    """One of unknown id may still turn up, and one of known id may not be listed yet (list lag)."""
    settle_s = desk.timing.settle_s
    if rental.instance_id is None:
        left = min(settle_s, desk.timing.write_timeout_s + settle_s - desk.age_s(rental.created_at))
    else:
        left = settle_s - desk.age_s(rental.rented_at or rental.created_at)
    now = desk.clock.monotonic()
    return Farewell(rental, why, now, now + max(0.0, left))


def _look(work: list[Farewell], desk: RentDesk) -> LlmhostError | None:
    """Ask once for all of them; the trouble when there was no answer. Further machines of their orders join the work."""
    asked_at = desk.clock.monotonic()
    try:
        instances = once_each(desk.market.instances())
    except LlmhostError as error:
        return error
    for farewell in [one for one in work if not one.gone]:
        for second in farewell.look(instances, asked_at, _rows(desk, farewell), desk):
            joined = _farewell(second, desk, farewell.why)
            joined.begin(desk)
            work.append(joined)
    return None


def _rows(desk: RentDesk, farewell: Farewell) -> list[Rental]:
    try:
        return desk.ledger.rentals.all()
    except LlmhostError as error:
        farewell.unwritten = error
        return []


def _ended(farewell: Farewell, trouble: LlmhostError | None, desk: RentDesk) -> Ended:
    if farewell.gone:
        return Ended(farewell.rental, True, farewell.unwritten)
    if farewell.rental.instance_id is not None:
        return Ended(farewell.rental, False, _still_billing(farewell, trouble, desk))
    rental = farewell.rental
    try:
        rental = desk.move(rental, "unknown" if rental.state == "intent" else rental.state)
    except LlmhostError:
        rental = replace(rental, state="unknown")
    return Ended(rental, False, _nobody_knows(rental, trouble))


def _still_billing(farewell: Farewell, trouble: LlmhostError | None, desk: RentDesk) -> StillBilling:
    rental, last = farewell.rental, trouble or (None if farewell.accepted else farewell.trouble)
    reason = f" ({last.message.rstrip('.')})" if last else ""
    what = "may still bill" if trouble else "is still listed, and so bills,"
    return StillBilling(
        f"instance {rental.instance_id} ({rental.gpu}, ${rental.price_usd_per_hour:.3f}/h) {what} "
        f"{desk.timing.verify_s:.0f} s after it was to end{reason}.",
        hint=f"llmhost down tries again; or destroy it in the console: {CONSOLE}",
    )


def _nobody_knows(rental: Rental, trouble: LlmhostError | None) -> StillBilling:
    reason = trouble.message if trouble else "the market did not answer often enough."
    return StillBilling(
        f"nobody knows whether a machine was rented for {rental.node_id}: {reason}",
        hint=f"llmhost status --refresh asks again; the console shows what bills: {CONSOLE}",
        code="rent_unsettled",
    )
