"""Renting one machine so that no dollar can be forgotten (vast facts §4.2): written down before the call that may bill, one call, and what
it did found out before anything else is done."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from llmhost.core.errors import LlmhostError, StillBilling
from llmhost.core.rentals import Rental
from llmhost.fleet.rented import claims, payer
from llmhost.fleet.rented.desk import RentDesk as RentDesk
from llmhost.fleet.rented.ending import CONSOLE, Ended, end
from llmhost.fleet.rented.interrupts import Interrupts, deferred
from llmhost.fleet.rented.not_rented import NotRented as NotRented
from llmhost.fleet.rented.ownership import CLAIM, new_label
from llmhost.fleet.rented.settle import settle_all
from llmhost.providers.market import Instance, MarketOffer, Order, Refused, Rented, RentOutcome, Unknown

# How often one offer is asked for when the market only says that it was asked too often, and the longest wait for that.
TURNS = 3
LONGEST_WAIT_S = 60.0
# By how much the market may round what was agreed.
TOLERANCE = 1.01
_WAITING = "interrupted: waiting until it is known what was rented; Ctrl-C again gives that up"


@dataclass(frozen=True, slots=True)
class Deal:
    """One offer for one node. `node_uuid` 12 hexadecimal digits, fresh per node; `attempt` counts from 1.

    The order's label, and its claim in the environment, are set here: an attempt that was made already gets the next number. `terms` as in
    Rental.
    """

    offer: MarketOffer
    order: Order
    fleet: str
    node_id: str
    node_uuid: str
    attempt: int = 1
    terms: dict[str, Any] = field(default_factory=dict)


def rent(deal: Deal, desk: RentDesk) -> Rental:
    """Rent it: the rental, `rented`.

    Raises NotRented (nothing bills), StillBilling (`rent_unsettled`: nobody knows, the ledger says unknown; or what should end does not),
    LlmhostError of a ledger that cannot be written (nothing was rented, or it is ended again), and Interrupted. Signals wait until the
    outcome is written down; threads need `deferred` around them in the main thread.
    """
    with deferred(lambda: desk.progress.note(_WAITING)) as interrupts:
        turn = 0
        while True:
            turn += 1
            try:
                return _attempt(deal, desk, interrupts)
            except NotRented as error:
                wait = max(desk.timing.penalty_s, error.retry_after_s or 0.0)
                if error.reason != "rate_limited" or turn == TURNS or wait > LONGEST_WAIT_S:
                    raise
            _wait(wait, desk, interrupts)


def _wait(seconds: float, desk: RentDesk, interrupts: Interrupts) -> None:
    """Nothing is rented meanwhile, so the first signal ends it."""
    desk.clock.wait(interrupts.asked, seconds)
    interrupts.check()


def _attempt(deal: Deal, desk: RentDesk, interrupts: Interrupts) -> Rental:
    interrupts.check()
    rental, order = _intend(deal, desk)
    if interrupts.asked.is_set():
        desk.move(rental, "refused", why="interrupted", ended_at=desk.stamp())
        interrupts.check()
    try:
        outcome: RentOutcome = desk.market.rent(deal.offer, order)
    except LlmhostError as error:
        # An order that is not sent (a secret in it): the market is asked all the same, and then the error is what there is to say.
        _not_sent(rental, error, desk)
        raise
    return _conclude(rental, outcome, desk, interrupts)


def _not_sent(rental: Rental, error: LlmhostError, desk: RentDesk) -> None:
    try:
        kept = _settled(rental, Unknown(error.message), desk)
    except NotRented:
        return
    _end_or_raise(kept, desk, error.message)


def _intend(deal: Deal, desk: RentDesk) -> tuple[Rental, Order]:
    """Write down what is about to be done: from here on a crash is found again."""
    attempt = deal.attempt
    while desk.ledger.rentals.get(_label(deal, desk, attempt)) is not None:
        attempt += 1
    label, offer = _label(deal, desk, attempt), deal.offer
    rental = Rental(
        label=label,
        fleet=deal.fleet,
        node_id=deal.node_id,
        state="intent",
        created_at=desk.stamp(),
        offer_id=offer.id,
        machine_id=offer.machine_id,
        host_id=offer.host_id,
        gpu=offer.gpu,
        price_usd_per_hour=offer.price_usd_per_hour,
        terms={**deal.terms, **payer.terms_of(desk.market)},
        provider=desk.market.name,
    )
    desk.ledger.rentals.add(rental)
    return rental, replace(deal.order, label=label, env={**deal.order.env, CLAIM: label})


def _label(deal: Deal, desk: RentDesk, attempt: int) -> str:
    return new_label(desk.installation, deal.fleet, deal.node_uuid, attempt)


def _conclude(rental: Rental, outcome: RentOutcome, desk: RentDesk, interrupts: Interrupts) -> Rental:
    if isinstance(outcome, Rented):
        kept = _keep(rental, outcome.instance_id, desk)
        return _at_the_price(kept, rental, _first_seen(kept, desk, interrupts), desk)
    if isinstance(outcome, Refused) and outcome.instance_id is not None:
        found = replace(rental, instance_id=outcome.instance_id, rented_at=rental.created_at)
        _end_or_raise(found, desk, f"refused, and yet made: {outcome.message}")
        raise _refused(outcome)
    return _settled(rental, outcome, desk)


def _keep(rental: Rental, instance_id: int, desk: RentDesk) -> Rental:
    """What the ledger does not know must not bill."""
    found = replace(rental, state="rented", instance_id=instance_id, rented_at=desk.stamp())
    try:
        kept = desk.move(rental, "rented", instance_id=instance_id, rented_at=found.rented_at)
    except LlmhostError:
        _end_or_raise(found, desk, "the ledger could not be written")
        raise
    if not kept.is_open:
        # Only another command that was wrong about who is at work closes a row that is in use.
        _end_or_raise(claims.remember_second(found, Instance(instance_id), desk), desk, "its row was closed meanwhile")
        raise NotRented("server", "another llmhost command closed the attempt; its machine was ended again.")
    return kept


def _settled(rental: Rental, outcome: Refused | Unknown, desk: RentDesk) -> Rental:
    try:
        settled = settle_all([rental], desk, just_now=True)[0]
    except LlmhostError as error:
        # Interrupted comes by itself; a ledger that cannot be written must not leave a machine that only the market knows of.
        _end_unwritten(rental, error, desk)
        raise
    if settled.rental.state == "rented":
        return _at_the_price(settled.rental, rental, settled.instance, desk)
    if settled.rental.state == "refused":
        raise _refused(outcome)
    if settled.forbidden and isinstance(outcome, Refused) and outcome.reason in ("auth", "permission"):
        # Whoever is let in nowhere has rented nothing.
        desk.move(settled.rental, "refused", why=outcome.message, ended_at=desk.stamp())
        raise _refused(outcome)
    raise StillBilling(
        f"nobody knows whether a machine was rented for {rental.node_id}: the market does not answer "
        f"({_why(outcome).rstrip('.')}).",
        hint=f"llmhost status --refresh asks again, llmhost down ends it; the console shows what bills: {CONSOLE}",
        code="rent_unsettled",
    )


def _end_unwritten(rental: Rental, error: LlmhostError, desk: RentDesk) -> None:
    if error.code in ("state_unwritable", "ledger_corrupt"):
        _end_or_raise(rental, desk, "the ledger could not be written")


def _first_seen(rental: Rental, desk: RentDesk, interrupts: Interrupts) -> Instance | None:
    """How the market lists it, which may take a while; None = not in time."""
    until = desk.clock.monotonic() + desk.timing.settle_s
    while not interrupts.asked.is_set():
        found = next((each for each in desk.listed() or () if each.id == rental.instance_id), None)
        if found is not None or desk.clock.monotonic() >= until:
            return found
        desk.clock.wait(interrupts.asked, desk.timing.settle_every_s)
    return None


def _at_the_price(kept: Rental, agreed: Rental, instance: Instance | None, desk: RentDesk) -> Rental:
    """What bills more than was agreed is ended. The ledger keeps what it really bills."""
    price = instance.price_usd_per_hour if instance else None
    if price is None or price <= 0:
        return kept
    if price <= agreed.price_usd_per_hour * TOLERANCE:
        return desk.move(kept, kept.state, **(claims.priced(kept, instance) if instance else {}))
    dearer = f"${price:.3f}/h instead of ${agreed.price_usd_per_hour:.3f}/h"
    _end_or_raise(replace(kept, price_usd_per_hour=price), desk, f"it bills {dearer}")
    raise NotRented(
        "offer_gone", f"the price of offer {kept.offer_id} rose: {dearer}; it was ended again.", code="price_rose"
    )


def _end_or_raise(rental: Rental, desk: RentDesk, why: str) -> Ended:
    ended = end([rental], desk, why)[0]
    if not ended.verified and ended.error is not None:
        raise ended.error
    return ended


def _refused(outcome: Refused | Unknown) -> NotRented:
    if isinstance(outcome, Refused):
        return NotRented(outcome.reason, outcome.message, retry_after_s=outcome.retry_after_s)
    return NotRented("server", f"the market did not rent it: {outcome.why}")


def _why(outcome: Refused | Unknown) -> str:
    return outcome.message if isinstance(outcome, Refused) else outcome.why
