"""What a market has for a wish: ranked, priced for the hours asked, and with a reason for each offer that does not do.

`llmhost offers` shows it and `llmhost up` takes the best of it, so both say the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from llmhost.core import model_catalog
from llmhost.core.errors import AuthenticationNeeded, LlmhostError, Unavailable
from llmhost.core.progress import Progress, SilentProgress
from llmhost.core.rentals import MachineNote
from llmhost.fleet import model_fit
from llmhost.fleet.model_fit import Fit
from llmhost.fleet.rented import gpu_names
from llmhost.fleet.rented.no_offer import described, none_fits, none_there, why_not
from llmhost.fleet.rented.ranking import Job, Priced, Ranking, Rejected, rank
from llmhost.fleet.rented.relax import Relaxation, relaxations
from llmhost.fleet.rented.request import RentWish
from llmhost.providers.market import Market, MarketOffer, OfferWish

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# The first is wanted; where the user named none and it leaves nothing, the second does (vast facts §4.3).
RELIABILITY, FALLBACK_RELIABILITY = 0.98, 0.95
# Beside the model: the system, Ollama, logs, and a second small model.
BESIDES_MODEL_GB = 25.0
LEAST_DISK_GB = 40.0
REHEARSAL_DISK_GB = 16.0
# A model whose size cannot be told is counted like the favourite.
UNKNOWN_MODEL_GB = 20.0
# Answers, which are text, and what goes over SSH.
UP_GB = 0.5


@dataclass(frozen=True, slots=True)
class Survey:
    """The answer. `chosen` best first and one of each machine; `fit` is the model on the best, None = a rehearsal or nothing fits.

    `wish` is what was looked for in the end (a default may have been lowered, `notes` say it); `credit_usd` None = not known. `relax` is
    only looked for when nothing does.
    """

    request: RentWish
    wish: OfferWish
    job: Job
    chosen: list[Priced]
    rejected: list[Rejected]
    relax: list[Relaxation] = field(default_factory=list)
    fit: Fit | None = None
    notes: tuple[str, ...] = ()
    credit_usd: float | None = None

    def fit_of(self, offer: MarketOffer) -> Fit | None:
        """The model on the card of an offer; None for a rehearsal."""
        return fit_on(self.request, offer)

    @property
    def refusal(self) -> LlmhostError | None:
        """Why nothing can be rented: NothingSuitable (`no_offer`) or UsageError (`unknown_gpu`); None = something can."""
        if self.chosen:
            return None
        if self.rejected:
            return none_fits(self.wish, self.rejected, self.relax)
        return none_there(self.wish, self.request.gpu)

    def require(self) -> Priced:
        """The best offer. Raises what `refusal` says."""
        refusal = self.refusal
        if refusal is not None:
            raise refusal
        return self.chosen[0]

    def as_dict(self) -> dict[str, Any]:
        """`{"offers": […], "rejected": […], "why_not": […], "wish": {…}, "relax": […], "fit": {…}|null, "credit_usd": number|null}`.

        An offer is MarketOffer's fields and Priced's, a rejected one MarketOffer's and `reasons`: `[{"code", "text", "option"}]`; `why_not`
        counts these. `wish` is OfferWish's fields with `model`, `backend` and `job`; `relax` as Relaxation.as_dict has it.
        """
        return {
            "offers": [each.as_dict() for each in self.chosen],
            "rejected": [each.as_dict() for each in self.rejected],
            "why_not": why_not(self.rejected),
            "wish": asdict(self.wish)
            | {"model": self.request.model, "backend": self.request.backend, "job": asdict(self.job)},
            "relax": [each.as_dict() for each in self.relax],
            "fit": asdict(self.fit) if self.fit else None,
            "credit_usd": self.credit_usd,
        }


def survey(
    request: RentWish,
    settings: Settings,
    market: Market,
    machines: Mapping[int, MachineNote],
    progress: Progress | None = None,
    now: datetime | None = None,
) -> Survey:
    """Ask the market and rank what it has. Nothing is rented.

    Raises NothingSuitable (`model_too_big`) when the model fits on no card that was offered, and what the market raises. No offer is no
    error here: see Survey.refusal.
    """
    progress, now = progress or SilentProgress(), now or datetime.now(UTC)
    wish, job = offer_wish(request, settings), job_of(request)
    progress.phase("offers", f"looking for {described(wish)} on {market.name}")
    offers = _found(market, wish, settings)
    _refuse_too_big(request, wish, offers)
    wish, ranking, notes = _ranked(request, offers, wish, job, machines, now)
    found = Survey(request, wish, job, ranking.chosen, ranking.rejected, notes=notes, credit_usd=_credit(market))
    if not found.chosen:
        return replace(found, relax=relaxations(found.rejected, wish, job, machines, now))
    fit = fit_on(request, found.chosen[0].offer)
    return replace(found, fit=fit, notes=(*notes, *(fit.notes if fit else ())))


def offer_wish(request: RentWish, settings: Settings) -> OfferWish:
    """What a machine must have for the request. Memory of the card: so that the model fits with the window asked, or the least one."""
    return OfferWish(
        gpus=gpu_names.market_names(request.gpu) if request.gpu else (),
        disk_gb=disk_gb(request),
        hours=request.hours,
        min_vram_mb=model_fit.min_vram_mb(request.model, request.context) if request.model else 0,
        min_memory_mb=round(settings.vast_min_memory_gb * 1000),
        min_reliability=RELIABILITY if request.min_reliability is None else request.min_reliability,
        min_down_mbps=settings.vast_min_down_mbps,
        trust=request.trust,
        static_ip=settings.vast_static_ip,
        regions=request.regions,
        max_price=request.max_price,
        offer_id=request.offer_id,
    )


def job_of(request: RentWish) -> Job:
    """What the machine will do, for its price."""
    return Job(request.hours, _model_gb(request), UP_GB)


def disk_gb(request: RentWish) -> float:
    """The disk to rent in GB: as asked, else the model and 25 GB, rounded up to tens, at least 40; 16 for a rehearsal."""
    if request.disk_gb is not None:
        return request.disk_gb
    if request.model is None:
        return REHEARSAL_DISK_GB
    return max(LEAST_DISK_GB, math.ceil((_model_gb(request) + BESIDES_MODEL_GB) / 10) * 10.0)


def fit_on(request: RentWish, offer: MarketOffer) -> Fit | None:
    """The window of the request's model on an offer's card; None for a rehearsal. Raises NothingSuitable (`model_too_big`)."""
    return model_fit.fit(request.model, offer.vram_mb, request.context) if request.model else None


def _found(market: Market, wish: OfferWish, settings: Settings) -> list[MarketOffer]:
    """What the market has.

    An offer cannot be asked for by its number (vast facts §1.5), and of everything the market shows the cheapest only: so where no card
    was named, the offer is looked for among the default ones first.
    """
    if wish.offer_id is None:
        return market.offers(wish)
    places = [wish] if wish.gpus else [replace(wish, gpus=gpu_names.market_names(settings.gpu)), wish]
    found = (offer for place in places for offer in market.offers(place) if offer.id == wish.offer_id)
    return list(islice(found, 1))


def _model_gb(request: RentWish) -> float:
    if request.model is None:
        return 0.0
    weights = model_catalog.facts(request.model).weights_gb
    return UNKNOWN_MODEL_GB if weights is None else weights


def _refuse_too_big(request: RentWish, wish: OfferWish, offers: Sequence[MarketOffer]) -> None:
    """Where the largest card is too small, that is what is wrong, whatever else is."""
    mine = [offer for offer in offers if not wish.gpus or offer.gpu in wish.gpus]
    largest = max(mine, key=lambda offer: offer.vram_mb, default=None)
    if largest is not None:
        fit_on(request, largest)


def _ranked(
    request: RentWish,
    offers: Sequence[MarketOffer],
    wish: OfferWish,
    job: Job,
    machines: Mapping[int, MachineNote],
    now: datetime,
) -> tuple[OfferWish, Ranking, tuple[str, ...]]:
    ranking = rank(offers, wish, job, machines, now)
    found = len(ranking.chosen)
    if found >= request.count or request.min_reliability is not None:
        return wish, ranking, ()
    lower = replace(wish, min_reliability=FALLBACK_RELIABILITY)
    second = rank(offers, lower, job, machines, now)
    if len(second.chosen) <= found:
        return wish, ranking, ()
    fewer = f"only {found}" if found else "nothing"
    note = f"{fewer} that fits has a reliability of {RELIABILITY}, so {FALLBACK_RELIABILITY} and more is taken."
    return lower, second, (note,)


def _credit(market: Market) -> float | None:
    """What is left to spend; a key that may only search does not see it, and offers are worth showing without.

    A key that is wrong is an error here, as the search alone may not need any.
    """
    try:
        return market.account().credit_usd
    except Unavailable:
        return None
    except AuthenticationNeeded as error:
        if error.code != "no_permission":
            raise
        return None
