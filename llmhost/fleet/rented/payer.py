"""Whose account pays for a rental: the lists of another account say nothing of it, so they must not be taken for its end."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from llmhost.core.errors import AuthenticationNeeded, LlmhostError
from llmhost.core.rentals import Rental
from llmhost.providers.market import Market

ACCOUNT = "account"  # in a rental's terms: the market's id of the account that pays
HINT = "Give the key of the account that rented it: VAST_API_KEY=… llmhost down"


def terms_of(market: Market) -> dict[str, str]:
    """What a rental's terms keep of who pays; nothing where the market did not say."""
    return {} if market.account_id is None else {ACCOUNT: market.account_id}


@dataclass(slots=True)
class Payer:
    """Whose the key at hand is, asked once at most: a market that does not say it is not asked for each machine."""

    asked: bool = False

    def of(self, market: Market) -> str | None:
        """The market's id of the account; None = nobody says."""
        if market.account_id is None and not self.asked:
            self.asked = True
            with contextlib.suppress(LlmhostError):
                return market.account().id
        return market.account_id


def differs(rental: Rental, account: str | None) -> bool:
    """Whether another account pays for it. Where nobody says so it is the same."""
    payer = rental.terms.get(ACCOUNT)
    return payer is not None and account is not None and account != payer


def not_ours_to_see(rental: Rental) -> AuthenticationNeeded:
    """What such a key means for it."""
    what = f"instance {rental.instance_id}" if rental.instance_id is not None else "it"
    message = f"{what} was rented with the key of another account, and this key cannot see it."
    return AuthenticationNeeded(message, hint=HINT, code="other_account")
