"""A ledger to work with although the real one is lost, damaged or cannot be written: what bills must be seen and ended all the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger
from llmhost.core.paths import Paths
from llmhost.core.rentals import Rental
from llmhost.fleet.installation import has_rented

DAMAGED = "ledger_corrupt"


@dataclass(frozen=True, slots=True)
class Rescued:
    """`trouble` = why this is not the real ledger; what is written to it ends with this process then.

    `complete` = it knows everything that was ever tried to rent from here. Where it does not, one list of the market proves nothing: that
    lags behind what was rented a moment ago.
    """

    ledger: Ledger
    trouble: LlmhostError | None = None
    complete: bool = True


def readable(paths: Paths) -> Rescued | None:
    """The ledger, or a copy in memory of one that cannot be written; None when there is none. Creates nothing.

    The caller closes it. Raises LlmhostError (`ledger_corrupt`, `ledger_newer`, `state_unwritable`) for one that cannot be read.
    """
    try:
        real = Ledger.open_existing(paths.ledger_file)
        return None if real is None else _probed(real, paths)
    except LlmhostError as trouble:
        if trouble.code == DAMAGED:
            raise
        copy = Ledger.copied(paths.ledger_file)
        return None if copy is None else _copy(copy, paths, trouble)


def peek(paths: Paths) -> Ledger | None:
    """The ledger for who only looks; a copy in memory where it opens only so. Nothing is written. Raises what `readable` does."""
    try:
        return Ledger.open_existing(paths.ledger_file)
    except LlmhostError as trouble:
        if trouble.code == DAMAGED:
            raise
        return Ledger.copied(paths.ledger_file)


@contextlib.contextmanager
def at_hand(paths: Paths, rentals: Sequence[Rental] = ()) -> Iterator[Rescued]:
    """The ledger, made where there is none; else the best there is: a copy in memory, or one in memory with just these rentals."""
    found = _best(paths, rentals)
    with found.ledger:
        yield found


def is_lost(ledger: Ledger | None, paths: Paths) -> bool:
    """Whether something was rented from here that this ledger (None = none that can be read) has never heard of."""
    return has_rented(paths) and (ledger is None or not ledger.rentals.all())


def _best(paths: Paths, rentals: Sequence[Rental]) -> Rescued:
    fresh = not paths.ledger_file.exists()
    try:
        paths.create()
        return _probed(Ledger.open(paths.ledger_file), paths, fresh=fresh)
    except LlmhostError as trouble:
        with contextlib.suppress(LlmhostError):
            copy = None if trouble.code == DAMAGED else Ledger.copied(paths.ledger_file)
            if copy is not None:
                return _copy(copy, paths, trouble)
        ledger = Ledger.in_memory()
        for rental in rentals:
            ledger.rentals.add(rental)
        return Rescued(ledger, trouble, bool(rentals))


def _probed(ledger: Ledger, paths: Paths, *, fresh: bool = False) -> Rescued:
    """Read all of it, as one cut short opens well; and write, as reading proves nothing of a full disk."""
    with _closed_on_failure(ledger):
        complete = _is_complete(ledger, paths) and not fresh
        with ledger.transaction():
            ledger.rentals.put_inventory(ledger.rentals.inventory())
    return Rescued(ledger, complete=complete)


def _copy(ledger: Ledger, paths: Paths, trouble: LlmhostError) -> Rescued:
    with _closed_on_failure(ledger):
        return Rescued(ledger, trouble, _is_complete(ledger, paths))


def _is_complete(ledger: Ledger, paths: Paths) -> bool:
    ledger.nodes()
    ledger.gateway()
    ledger.rentals.inventory()
    return not is_lost(ledger, paths)


@contextlib.contextmanager
def _closed_on_failure(ledger: Ledger) -> Iterator[None]:
    try:
        yield
    except BaseException:
        ledger.close()
        raise
