"""`status --refresh`: the market asked anew, before the ledger is looked at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger
from llmhost.core.paths import Paths
from llmhost.fleet.installation import has_rented
from llmhost.fleet.rented.books import RENTAL, read_books
from llmhost.fleet.rented.enforce import Place, forget_nodes
from llmhost.fleet.rented.reconcile import reconcile
from llmhost.fleet.rented.refreshed import Refreshed
from llmhost.fleet.rented.rescue import DAMAGED, Rescued, at_hand, is_lost, peek
from llmhost.fleet.turn import is_taken, try_turn
from llmhost.providers.vast.key import find_key

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# Who looks does not wait for an end that takes minutes; the watch and `down` do.
PATIENCE_S = 15.0


def refresh_inventory(settings: Settings, paths: Paths) -> Refreshed:
    """Bring the ledger up to what the market says; one that cannot be used keeps nobody from seeing it.

    Who has no account and nothing rented is not bothered. While an `up` or a `down` is at work its attempts are left to it.
    """
    try:
        if find_key(settings) is None and not _may_bill(paths):
            return Refreshed()
        from llmhost.providers.vast.market import open_market

        market = open_market(settings)
        with at_hand(paths) as found, _turn(paths) as mine:
            place = Place(market, settings, paths)
            reconcile(place.desk(found.ledger), at_work=not mine, patience_s=PATIENCE_S)
            if found.trouble is not None:
                return _unkept(found, paths)
            return Refreshed(_let_go(place, found.ledger) if mine else [])
    except LlmhostError as error:
        return Refreshed([f"the market could not be asked: {error.message}"])


def _let_go(place: Place, ledger: Ledger) -> list[str]:
    """Forget the nodes whose machines are gone; a sentence about each."""
    why = {rental.label: rental.why for rental in ledger.rentals.all()}
    gone = forget_nodes(place.home, ledger)
    return [f"{node.id} is gone: {why.get(str(node.spec.get(RENTAL))) or 'it was ended'}." for node in gone]


def _unkept(found: Rescued, paths: Paths) -> Refreshed:
    """A damaged ledger is told as an error by who looks at it."""
    books = read_books(found.ledger, paths)
    trouble = found.trouble
    if trouble is None or trouble.code == DAMAGED:
        return Refreshed(books=books)
    return Refreshed([f"what the market says is shown, and could not be kept: {trouble.message}"], books)


@contextlib.contextmanager
def _turn(paths: Paths) -> Iterator[bool]:
    """As `try_turn`; where nobody can take one it is ours, unless somebody has it."""
    with contextlib.ExitStack() as stack:
        try:
            mine = stack.enter_context(try_turn(paths))
        except LlmhostError:
            mine = not is_taken(paths)
        yield mine


def _may_bill(paths: Paths) -> bool:
    """As far as the ledger knows; one that is lost or damaged does not."""
    try:
        ledger = peek(paths)
        with ledger or contextlib.nullcontext():
            return is_lost(ledger, paths) or bool(ledger and ledger.rentals.all(open_only=True))
    except LlmhostError:
        return has_rented(paths)
