"""Ending what is rented, and making sure of it: only the market's own list proves that nothing bills (vast facts §4.2 step 8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmhost.core.errors import AuthenticationNeeded, LlmhostError, StillBilling
from llmhost.core.rentals import Rental
from llmhost.fleet.rented import claims
from llmhost.fleet.rented.desk import RentDesk, once_each
from llmhost.fleet.rented.farewell import Farewell
from llmhost.fleet.rented.payer import not_ours_to_see
from llmhost.providers.market import Instance

# Codes of what a key may not do; what StillBilling is then told with.
KEY_TROUBLES = ("bad_key", "no_permission", "other_account")
CONSOLE = "https://cloud.vast.ai/instances/"


@dataclass(frozen=True, slots=True)
class Ended:
    """`verified` = the market lists it no more. `error`: StillBilling when it may bill, with the code of the key's trouble where that is
    why; a ledger's when only that is behind."""

    rental: Rental
    verified: bool
    error: LlmhostError | None = None


def end(rentals: Sequence[Rental], desk: RentDesk, why: str) -> list[Ended]:
    """End all of them over one series of lists; the results in their order. Nothing is raised for what the market does.

    One that is still listed, or cannot be asked for, after `verify_s` stays `destroying` (an attempt whose machine was never found
    `unknown`); a key that may do nothing about it is not waited for. Raises Interrupted when the user insists.
    """
    if not rentals:
        return []
    work = [_farewell(rental, desk, why) for rental in rentals]
    for farewell in work:
        farewell.begin(desk)
    deadline = desk.clock.monotonic() + desk.timing.end_patience_s
    trouble: LlmhostError | None = None
    refusals = 0
    if any(desk.is_anothers(one.rental) for one in work if not one.gone):
        trouble = _look(work, desk)  # one that is listed is no other account's, whatever name that goes by
    while any(not farewell.gone for farewell in work):
        _push(work, deadline, desk)
        trouble = _look(work, desk)
        refusals = refusals + 1 if _is_refused(work, trouble) else 0
        over = desk.clock.monotonic() >= deadline or refusals >= desk.timing.settle_answers
        if over or all(farewell.gone for farewell in work):
            break
        desk.pause(desk.timing.verify_every_s)
    return [_ended(farewell, trouble, desk) for farewell in work[: len(rentals)]]


def end_orphan(instance: Instance, desk: RentDesk) -> Ended:
    """End a machine that is ours and has no row of its own: it gets one first. As `end`."""
    return end_orphans([instance], desk)[0]


def end_orphans(instances: Sequence[Instance], desk: RentDesk) -> list[Ended]:
    """`end_orphan` for several over one series of lists, in their order. Raises what the ledger raises, before anything is done."""
    return end([claims.remember_orphan(instance, desk) for instance in instances], desk, "an orphan")


def _farewell(rental: Rental, desk: RentDesk, why: str) -> Farewell:
    """One of unknown id may still turn up, and one of known id may not be listed yet (list lag)."""
    if rental.instance_id is None:
        left = desk.lag_left_s(rental)
    else:
        left = desk.timing.settle_s - desk.age_s(rental.rented_at or rental.created_at)
    now = desk.clock.monotonic()
    return Farewell(rental, why, now, now + max(0.0, left))


def _push(work: list[Farewell], deadline: float, desk: RentDesk) -> None:
    """Each is told once at least, however long the market takes to answer; but who only wants to know has no time for that."""
    for farewell in list(work):
        if desk.timing.patience_s is None or desk.clock.monotonic() < deadline:
            farewell.push(desk)


def _is_refused(work: list[Farewell], trouble: LlmhostError | None) -> bool:
    """Whether the key is what is in the way of all that is left."""
    left = (farewell for farewell in work if not farewell.gone)
    return isinstance(trouble, AuthenticationNeeded) or (trouble is None and all(one.is_refused for one in left))


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
    return Ended(rental, False, _nobody_knows(rental, not_ours_to_see(rental) if farewell.anothers else trouble))


def _still_billing(farewell: Farewell, trouble: LlmhostError | None, desk: RentDesk) -> StillBilling:
    rental, last = farewell.rental, trouble or (None if farewell.accepted else farewell.trouble)
    last = not_ours_to_see(rental) if farewell.anothers else last
    reason = f" ({last.message.rstrip('.')})" if last else ""
    what = "may still bill" if trouble or farewell.anothers else "is still listed, and so bills,"
    return StillBilling(
        f"instance {rental.instance_id} ({rental.gpu}, ${rental.price_usd_per_hour:.3f}/h) {what} "
        f"{desk.clock.monotonic() - farewell.started:.0f} s after it was to end{reason}.",
        hint=_way_out(last, f"llmhost down tries again; or destroy it in the console: {CONSOLE}"),
        code=_code(last),
    )


def _way_out(why: LlmhostError | None, otherwise: str) -> str:
    """A key that may do nothing is what has to be set right first."""
    hint = why.hint if isinstance(why, AuthenticationNeeded) else None
    return f"{hint.rstrip('.')}. Then: llmhost down" if hint and "llmhost down" not in hint else hint or otherwise


def _code(why: LlmhostError | None) -> str | None:
    return why.code if isinstance(why, AuthenticationNeeded) and why.code in KEY_TROUBLES else None


def _nobody_knows(rental: Rental, trouble: LlmhostError | None) -> StillBilling:
    reason = trouble.message if trouble else "the market did not answer often enough."
    return StillBilling(
        f"nobody knows whether a machine was rented for {rental.node_id}: {reason}",
        hint=_way_out(trouble, f"llmhost status --refresh asks again; the console shows what bills: {CONSOLE}"),
        code="rent_unsettled",
    )
