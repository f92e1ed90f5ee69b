"""`status --refresh`: the market asked anew, before the ledger is looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger
from llmhost.core.paths import Paths
from llmhost.fleet.rented.enforce import Place
from llmhost.fleet.rented.reconcile import reconcile
from llmhost.fleet.turn import try_turn
from llmhost.providers.vast.key import find_key

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# Who looks does not wait for an end that takes minutes; the watch and `down` do.
PATIENCE_S = 15.0


def refresh_inventory(settings: Settings, paths: Paths) -> list[str]:
    """Bring the ledger up to what the market says; sentences about what was in the way.

    Who has no account and nothing rented is not bothered. While an `up` or a `down` is at work its attempts are left to it.
    """
    try:
        if find_key(settings) is None and not _has_open(paths):
            return []
        from llmhost.providers.vast.market import open_market

        market = open_market(settings)
        paths.create()
        with Ledger.open(paths.ledger_file) as ledger, try_turn(paths) as mine:
            reconcile(Place(market, settings, paths).desk(ledger), at_work=not mine, patience_s=PATIENCE_S)
    except LlmhostError as error:
        return [f"the market could not be asked: {error.message}"]
    return []


def _has_open(paths: Paths) -> bool:
    ledger = Ledger.open_existing(paths.ledger_file)
    if ledger is None:
        return False
    with ledger:
        return bool(ledger.rentals.all(open_only=True))
