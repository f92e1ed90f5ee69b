"""The watch's look at the market: the newest list in the ledger, the credit now and then, and what became of machines that are gone."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger
from llmhost.core.paths import Paths
from llmhost.core.rentals import Rental
from llmhost.fleet.rented import bill, inventory_view, memory, warnings
from llmhost.fleet.rented.alerts import Alert
from llmhost.fleet.rented.enforce import Place
from llmhost.fleet.rented.reconcile import VANISHED, reconcile
from llmhost.fleet.rented.surroundings import Heard
from llmhost.fleet.rented.vanished import why_gone
from llmhost.providers.market import Instance, Market

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

log = logging.getLogger("llmhost.watch")
# Credit moves slowly, and asking for it is another call.
CREDIT_EVERY_S = 600.0


class MarketLook:
    """`open_market` raises LlmhostError while there is no key; it is tried again at each look. One look at a time."""

    def __init__(self, settings: Settings, paths: Paths, open_market: Callable[[Settings], Market]) -> None:
        self._settings = settings
        self._paths = paths
        self._open_market = open_market
        self._market: Market | None = None
        self._trouble: str | None = None
        self._credit_at: float | None = None
        self._rows: dict[int, Instance] = {}

    @property
    def place(self) -> Place | None:
        """What ending takes; None while there is no key."""
        try:
            self._market = self._market or self._open_market(self._settings)
        except LlmhostError:
            return None
        return Place(self._market, self._settings, self._paths)

    def look(self) -> None:
        """Ask, which may take as long as the market's time-outs. Trouble is written down, and told when it is another than before."""
        with Ledger.open(self._paths.ledger_file) as ledger:
            self._remember_rows(ledger)
            try:
                self._market = self._market or self._open_market(self._settings)
                reconcile(Place(self._market, self._settings, self._paths).desk(ledger), at_work=True)
                self._ask_credit(self._market, ledger)
            except LlmhostError as error:
                ledger.rentals.put_inventory(replace(ledger.rentals.inventory(), trouble=error.message))
                self._tell(error.message)
            else:
                self._tell(None)

    def news(self, ledger: Ledger, heard: Heard) -> Iterator[Alert]:
        """What the ledger has learnt since, whoever asked the market: machines that are gone, and prices that rose."""
        self._remember_rows(ledger)
        for rental in [one for one in ledger.rentals.all() if one.state == "gone" and one.why == VANISHED]:
            why = self._explain(rental, ledger, heard)
            ledger.rentals.move(rental.label, "gone", why=why)
            yield warnings.gone_alert(rental.fleet, rental.node_id, why)
        for risen in list(inventory_view.risen(ledger.rentals.inventory(), ledger.rentals.all(open_only=True))):
            terms = bill.raised(risen.rental, risen.now, datetime.now(UTC))
            ledger.rentals.move(risen.rental.label, risen.rental.state, terms=terms)
            yield warnings.price_alert(risen)

    def _remember_rows(self, ledger: Ledger) -> None:
        """The last row of a machine says why it went, and the list that lacks it does not have it."""
        self._rows |= {row.id: row for row in inventory_view.instances(ledger.rentals.inventory())}

    def _explain(self, rental: Rental, ledger: Ledger, heard: Heard) -> str:
        row = self._rows.get(rental.instance_id or 0)
        silent_s = heard.silent_s(rental.node_id, datetime.now(UTC))
        credit, terms = ledger.rentals.inventory().credit_usd, ledger.rentals.terms(rental.fleet)
        since = memory.load(self._paths).idle_since.get(rental.fleet)
        idle_since = bill.moment(since) if since else None
        return why_gone(rental, row, terms, credit, silent_s, self._settings.vast_contact_s, idle_since)

    def _ask_credit(self, market: Market, ledger: Ledger) -> None:
        if self._credit_at is not None and time.monotonic() < self._credit_at + CREDIT_EVERY_S:
            return
        credit = market.account().credit_usd
        self._credit_at = time.monotonic()
        ledger.rentals.put_inventory(replace(ledger.rentals.inventory(), credit_usd=credit))

    def _tell(self, trouble: str | None) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            log.log(logging.WARNING if trouble else logging.INFO, trouble or "the market answers")
