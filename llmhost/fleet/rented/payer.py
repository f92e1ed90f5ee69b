"""Whose account pays for a rental: the lists of another account say nothing of it, so they must not be taken for its end."""

from __future__ import annotations

from llmhost.core.errors import AuthenticationNeeded, LlmhostError
from llmhost.core.rentals import Rental
from llmhost.providers.market import Market

ACCOUNT = "account"  # in a rental's terms: the market's id of the account that pays
HINT = "Give the key of the account that rented it: VAST_API_KEY=… llmhost down"


def terms_of(market: Market) -> dict[str, str]:
    """What a rental's terms keep of who pays; nothing where the market did not say."""
    return {} if market.account_id is None else {ACCOUNT: market.account_id}


def is_anothers(rental: Rental, market: Market) -> bool:
    """Whether the key at hand is that of another account than the one that pays. Where nobody says so it is the same."""
    payer = rental.terms.get(ACCOUNT)
    if payer is None:
        return False
    try:
        mine = market.account_id or market.account().id
    except LlmhostError:
        return False
    return mine is not None and mine != payer


def not_ours_to_see(rental: Rental) -> AuthenticationNeeded:
    """What such a key means for it."""
    what = f"instance {rental.instance_id}" if rental.instance_id is not None else "it"
    message = f"{what} was rented with the key of another account, and this key cannot see it."
    return AuthenticationNeeded(message, hint=HINT, code="other_account")
