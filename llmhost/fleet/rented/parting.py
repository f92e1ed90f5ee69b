"""What became of what was rented, as `down` and others tell it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmhost.core.errors import AuthenticationNeeded, LlmhostError, StillBilling
from llmhost.core.paths import Paths
from llmhost.core.rentals import Rental
from llmhost.fleet.rented import bill
from llmhost.fleet.rented.ending import CONSOLE, KEY_TROUBLES
from llmhost.fleet.rented.rescue import DAMAGED

KEY_HINT = "Give the account's key, and try again: VAST_API_KEY=… llmhost down"


@dataclass(frozen=True, slots=True)
class Parting:
    """What became of it. `destroyed` and `still_billing` are as the contract's; `open` are the rentals that may still bill.

    `unwritten` = why the ledger does not have it. `nothing_of_ours` = no ledger knew what was rented, and the market listed nothing of this
    installation for as long as its list may lag behind.
    """

    destroyed: tuple[dict[str, Any], ...] = ()
    still_billing: tuple[dict[str, Any], ...] = ()
    errors: tuple[LlmhostError, ...] = ()
    open: tuple[Rental, ...] = ()
    warnings: tuple[str, ...] = ()
    unwritten: LlmhostError | None = None
    nothing_of_ours: bool = False


def was_bought(rental: Rental) -> bool:
    return rental.is_open or rental.instance_id is not None


def ended_row(node_id: str, rental: Rental | None, *, verified: bool) -> dict[str, Any]:
    """One of the contract's `destroyed`, with its price and what was left on its machine (nothing, of a rented one)."""
    number = rental.instance_id if rental else None
    return {
        "id": node_id,
        "instance_id": None if number is None else str(number),
        "spent_usd": (rental.spent_usd or 0.0) if rental else 0.0,
        "hours": None,
        "price_usd_per_hour": bill.price(rental) if rental else 0.0,
        "gpu": rental.gpu if rental else None,
        "label": rental.label if rental else None,
        "verified": verified,
        "kept": [],
    }


def billing_row(rental: Rental) -> dict[str, Any]:
    """One of the contract's `still_billing`."""
    return {
        "instance_id": None if rental.instance_id is None else str(rental.instance_id),
        "label": rental.label,
        "price_usd_per_hour": bill.price(rental),
        "node": rental.node_id,
    }


def still_billing(rentals: Sequence[Rental], why: LlmhostError | None, hint: str = "llmhost down") -> StillBilling:
    """What may bill, by its id and price, and why it could not be ended. Where the reason tells a way out, that one comes first."""
    names = ", ".join(map(shown, rentals))
    reason = f": {why.message}" if why is not None else "."
    way_out = why.hint if why is not None and why.hint and _is_of_the_key(why) else hint
    price = sum(map(bill.price, rentals))
    return StillBilling(
        f"{names} may still bill (${price:.3f} an hour){reason}",
        hint=way_out if "llmhost down" in way_out else f"{way_out.rstrip('.')}. Then: llmhost down",
        code=why.code if why is not None and why.code else None,
    )


def _is_of_the_key(why: LlmhostError) -> bool:
    return isinstance(why, AuthenticationNeeded) or why.code in KEY_TROUBLES


def shown(rental: Rental) -> str:
    if rental.instance_id is None:
        return f"what was rented for {rental.node_id}, label {rental.label},"
    return f"instance {rental.instance_id} ({rental.node_id})"


def untouched(rentals: Sequence[Rental], why: LlmhostError) -> Parting:
    """Nobody could be asked."""
    still = tuple(rental for rental in rentals if rental.is_open)
    error = (
        still_billing(still, AuthenticationNeeded(why.message, hint=why.hint, code=why.code))
        if still
        else _nobody_knows(why)
    )
    return Parting(
        tuple(ended_row(one.node_id, one, verified=False) for one in still),
        tuple(map(billing_row, still)),
        (error,),
        still,
    )


def in_spite_of(
    trouble: LlmhostError, parting: Parting, paths: Paths, *, whole: bool, asked: bool = True
) -> LlmhostError:
    """The ledger's trouble, with what was done all the same. `whole` = nothing else was in the way, which has errors of its own.

    `asked` = whether what is rented was meant.
    """
    file = paths.ledger_file
    if not asked:
        said, hint = "What runs here was stopped; what is rented was left as it is.", "End all of it: llmhost down"
        return LlmhostError(f"{trouble.message} {said}", hint=hint, code=trouble.code)
    gone = [row["instance_id"] for row in parting.destroyed if row["verified"] and row["instance_id"]]
    ended = "What runs here and what was rented has" if whole else "Not all of what runs here or was rented has"
    done = f"{ended} ended all the same."
    done += f" Destroyed, and verified: instance {', '.join(gone)}." if gone else ""
    if trouble.code == DAMAGED:
        said, hint = "The file is kept.", f"Keep it aside: mv {file} {file}.damaged"
    else:
        said, hint = "That could not be written down, so status still shows what there was.", trouble.hint
    return LlmhostError(f"{trouble.message} {done} {said}", hint=hint, code=trouble.code)


def _nobody_knows(why: LlmhostError) -> AuthenticationNeeded:
    message = f"nobody knows whether something of this installation bills: {why.message}"
    return AuthenticationNeeded(message, hint=why.hint or KEY_HINT, code=why.code)


def no_id() -> StillBilling:
    """Something was rented from here, and neither a ledger nor our own id says what."""
    return StillBilling(
        "nobody knows whether something of this installation bills: its ledger is lost, and so is its id.",
        hint=f"See in the console what bills, and destroy it there: {CONSOLE}",
        code="rent_unsettled",
    )
