"""One node to be rented: offer after offer, each on another machine, until one serves; what did not is ended, verified, before the next."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmhost.core.errors import LlmhostError, StillBilling
from llmhost.core.ledger import Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.rentals import Rental, Terms
from llmhost.fleet.rented import diagnosis
from llmhost.fleet.rented.boot import BootDesk, BootFailed, boot
from llmhost.fleet.rented.crew import stopped
from llmhost.fleet.rented.desk import RentDesk
from llmhost.fleet.rented.ending import end
from llmhost.fleet.rented.node import become_node
from llmhost.fleet.rented.order import order_for, rental_terms
from llmhost.fleet.rented.plan import RentedPlan, Seat
from llmhost.fleet.rented.ranking import Job, Priced
from llmhost.fleet.rented.timing import RentTiming
from llmhost.fleet.rented.transaction import Deal, NotRented, rent
from llmhost.fleet.rented.watchtower import Watchtower
from llmhost.fleet.visit import Visits
from llmhost.providers.base import BackendChoice
from llmhost.providers.market import Market

if TYPE_CHECKING:
    from llmhost.core.settings import Settings
    from llmhost.fleet.model_fit import Fit

# Whose fault it must be for another machine to be worth a try.
ANOTHER_MAY_DO = ("host", "network", "image")
CENT = 0.005


@dataclass(slots=True)
class Pool:
    """The offers that are left, best first. May be asked from any thread; no two get the same machine."""

    offers: list[Priced]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _blamed_images: set[int] = field(default_factory=set)

    def take(self) -> Priced | None:
        """The best one left; None when none is."""
        with self._lock:
            return self.offers.pop(0) if self.offers else None

    def blame_image(self, machine_id: int) -> bool:
        """An image that is no good; whether that was said on two machines, so that no third will do (vast facts §2.1)."""
        with self._lock:
            self._blamed_images.add(machine_id)
            return len(self._blamed_images) > 1


@dataclass(frozen=True, slots=True)
class Site:
    """What all seats of one `up` share. `key` is the public half of what logs in."""

    plan: RentedPlan
    terms: Terms
    market: Market
    settings: Settings
    paths: Paths
    installation: str
    key: str
    pool: Pool
    watchtower: Watchtower
    visits: Visits
    stop: threading.Event
    account_key: str | None = field(default=None, repr=False)

    @property
    def job(self) -> Job:
        """What the machines are for."""
        return self.plan.survey.job if self.plan.survey else Job(1.0)

    def fit(self, priced: Priced) -> Fit | None:
        return self.plan.survey.fit_of(priced.offer) if self.plan.survey else None


def fill(seat: Seat, first: Priced, site: Site, progress: Progress) -> NodeRecord:
    """Rent one and make a node of it: its record, not in the ledger yet.

    Raises StillBilling, NotRented or BootFailed of the only attempt, LlmhostError (`no_machine`) about several. What failed is ended by
    then, verified; an attempt that was stopped with the others (`stopped_with_others`) is left for whoever stopped them.
    """
    with Ledger.open(site.paths.ledger_file) as ledger:
        return _Seat(seat, site, ledger, progress).fill(first)


@dataclass(frozen=True, slots=True)
class Failure:
    """One attempt that came to nothing. `usd` is what it cost."""

    error: LlmhostError
    usd: float = 0.0


@dataclass(slots=True)
class _Seat:
    seat: Seat
    site: Site
    ledger: Ledger
    progress: Progress
    failures: list[Failure] = field(default_factory=list)

    def fill(self, first: Priced) -> NodeRecord:
        offer: Priced | None = first
        while offer is not None:
            self._check_going_on()
            record = self._attempt(offer)
            if record is not None:
                return record
            offer = self.site.pool.take() if len(self.failures) < self.site.settings.vast_attempts else None
        raise self._all_failed()

    def _check_going_on(self) -> None:
        if self.site.stop.is_set():
            raise stopped()

    def _attempt(self, offer: Priced) -> NodeRecord | None:
        """One offer: its node, or None when another one may do better."""
        deal = self._deal(offer, len(self.failures) + 1)
        self.progress.phase("rent", f"renting {_named(offer)}")
        try:
            rental = rent(deal, self._rent_desk())
        except NotRented as error:
            self._failed(Failure(error), again=error.next_offer)
            return None
        try:
            return self._boot(rental, offer)
        except LlmhostError as error:
            self._check_going_on()
            self._give_up(rental, error)
        return None

    def _boot(self, rental: Rental, offer: Priced) -> NodeRecord:
        self._check_going_on()
        site = self.site
        desk = BootDesk(site.market, self.ledger, site.settings, site.paths, site.watchtower, site.visits, site.stop)
        booted = boot(rental, desk, self.progress, alias=self.seat.alias)
        fit = site.fit(offer)
        return become_node(
            booted,
            self._choice(fit),
            desk,
            self.progress,
            needs_vram_mb=(fit.needs_mb or 0) if fit else 0,
            ollama_env=fit.env if fit else None,
        )

    def _choice(self, fit: Fit | None) -> BackendChoice:
        choice = self.site.plan.choice
        return choice if fit is None else replace(choice, context=fit.context, missing=True)

    def _deal(self, priced: Priced, attempt: int) -> Deal:
        site = self.site
        order = order_for(
            priced.offer,
            site.fit(priced),
            site.plan.wish.model,
            alias=self.seat.alias,
            terms=site.terms,
            key=site.key,
            settings=site.settings,
            disk_gb=site.plan.disk_gb,
        )
        terms = rental_terms(priced, site.job, order)
        return Deal(priced.offer, order, site.plan.fleet, self.seat.node_id, self.seat.uuid, attempt, terms)

    def _rent_desk(self) -> RentDesk:
        site = self.site
        return RentDesk(site.market, self.ledger, site.installation, RentTiming.of(site.settings), self.progress)

    def _give_up(self, rental: Rental, error: LlmhostError) -> None:
        """Keep what it printed, end it and verify that. Raises StillBilling, and the error where no other machine would do better."""
        site = self.site
        self.progress.note(error.message)
        secrets = diagnosis.known_secrets(site.settings, self.ledger, site.paths, site.account_key)
        diagnosis.explain(error, diagnosis.collect(rental, site.market, secrets, site.paths))
        self.progress.phase("destroy", f"ending instance {rental.instance_id}, before anything else is rented")
        (ended,) = end([rental], self._rent_desk(), error.code)
        if not ended.verified:
            raise ended.error or StillBilling(f"instance {rental.instance_id} may still bill.", hint="llmhost down")
        self._failed(Failure(error, ended.rental.spent_usd or 0.0), again=self._another_may_do(rental, error))

    def _another_may_do(self, rental: Rental, error: LlmhostError) -> bool:
        blame = error.blame if isinstance(error, BootFailed) else "ours"
        return blame in ANOTHER_MAY_DO and not (blame == "image" and self.site.pool.blame_image(rental.machine_id))

    def _failed(self, failure: Failure, *, again: bool) -> None:
        self.failures.append(failure)
        if not again:
            raise self._all_failed()
        if isinstance(failure.error, NotRented):
            self.progress.note(failure.error.message)

    def _all_failed(self) -> LlmhostError:
        return all_failed(self.seat.node_id, self.failures)


def all_failed(node_id: str, failures: Sequence[Failure]) -> LlmhostError:
    """The only failure as it is, with what it cost; several told together, with the hint and the exit code of the last."""
    last = failures[-1].error
    cost = sum(failure.usd for failure in failures)
    if len(failures) == 1:
        last.message = (
            f"{last.message.rstrip()} It was ended again and cost ${cost:.2f}." if cost >= CENT else last.message
        )
        return last
    said = " ".join(f"({number}) {failure.error.message}" for number, failure in enumerate(failures, 1))
    return NoMachine(
        f"{node_id}: {len(failures)} offers were tried, and none serves; they cost ${cost:.2f} in all. {said}", last
    )


class NoMachine(LlmhostError):
    """Several offers were tried in vain. Code `no_machine`; the exit code is the last failure's."""

    default_code = "no_machine"

    def __init__(self, message: str, last: LlmhostError) -> None:
        super().__init__(message, hint=last.hint)
        self.exit_code = last.exit_code  # type: ignore[misc]


def _named(priced: Priced) -> str:
    offer = priced.offer
    return (
        f"{offer.gpu} in {offer.region or 'an unknown place'} for ${offer.price_usd_per_hour:.3f}/h (offer {offer.id})"
    )
