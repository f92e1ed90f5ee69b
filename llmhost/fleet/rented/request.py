"""What the user asked to be rented, from flags and settings, before the market is asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llmhost.core import durations
from llmhost.core.errors import UsageError
from llmhost.providers.base import BackendName
from llmhost.providers.market import Trust
from llmhost.providers.model_choice import FAVOURITE

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# A lease without end is scored over a day.
ENDLESS_HOURS = 24.0
ANYWHERE = ("ANY", "ALL")


@dataclass(frozen=True, slots=True)
class RentWish:
    """One wish for `count` machines. `gpu` as the user wrote it; None = any will do (a rehearsal for which none was named).

    `model` is None for a rehearsal. `context` in tokens, None = the largest comfortable one. Prices USD (`max_price` an hour for each
    machine), times seconds, `lease_s` None = no end, `idle_s` None = off. `min_reliability` None = not named, so it may be relaxed.
    `disk_gb` None = by the model. `regions` are two-letter country codes, none = everywhere. `offer_id` = that offer or none.
    """

    gpu: str | None
    backend: BackendName = "ollama"
    model: str | None = FAVOURITE
    context: int | None = None
    count: int = 1
    max_price: float | None = None
    budget: float | None = None
    lease_s: float | None = 4 * 3600.0
    idle_s: float | None = 30 * 60.0
    regions: tuple[str, ...] = ()
    trust: Trust = "verified"
    min_reliability: float | None = None
    disk_gb: float | None = None
    image: str | None = None
    offer_id: int | None = None

    @property
    def hours(self) -> float:
        """The hours that offers are scored over."""
        return ENDLESS_HOURS if self.lease_s is None else self.lease_s / 3600

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as `Terms.wish` keeps them."""
        return asdict(self)


def from_settings(settings: Settings, offer_id: int | None = None, count: int = 1) -> RentWish:
    """The wish that the settings hold. Raises UsageError (`bad_duration`) for a lease or idle time that is none."""
    backend: BackendName = settings.backend or "ollama"
    return RentWish(
        gpu=_gpu(settings, backend, offer_id),
        backend=backend,
        model=None if backend == "rehearsal" else settings.model or FAVOURITE,
        context=settings.context,
        count=count,
        max_price=settings.max_price,
        budget=settings.budget,
        lease_s=_lease(settings.lease),
        idle_s=durations.seconds(settings.idle),
        regions=_regions(settings.regions or ()),
        trust=settings.trust,
        min_reliability=settings.min_reliability,
        disk_gb=settings.disk,
        image=settings.image,
        offer_id=offer_id,
    )


def _lease(written: str) -> float | None:
    length = durations.seconds(written)
    if length == 0:
        raise UsageError("a lease of no time would end before it begins.", hint="--lease 4h", code="bad_duration")
    return length


def _gpu(settings: Settings, backend: BackendName, offer_id: int | None) -> str | None:
    """The default card is for the favourite model: a rehearsal needs none, and an offer that is named has the one it has."""
    free = backend == "rehearsal" or offer_id is not None
    return None if free and settings.source("gpu") == "default" else settings.gpu


def _regions(written: tuple[str, ...]) -> tuple[str, ...]:
    codes = tuple(dict.fromkeys(code.strip().upper() for code in written if code.strip()))
    return () if any(code in ANYWHERE for code in codes) else codes
