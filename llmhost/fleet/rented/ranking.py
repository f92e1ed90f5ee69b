"""Which offer is really the cheapest for the hours asked.

The hourly price is only a part of it: the model is paid by the gigabyte, and while a machine boots and loads it bills already. All
formulas and their constants are those of vast facts §4.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from llmhost.core.rentals import MachineNote
from llmhost.fleet.rented.offer_filters import Reason, failed_lately, reasons
from llmhost.providers.market import MarketOffer, OfferWish

HOURS_PER_MONTH = 720.0
# How long a machine takes that never was ours: from a cold start (there: 90 s with the image on it, 330 s without).
BOOT_S = 330.0
# Of the line that a host claims, so much arrives, and never more than that many Mbit/s.
EFFICIENCY = 0.6
MOST_MBPS = 2_500.0
UNRELIABILITY_WEIGHT = 4.0
BANDWIDTH_EXPONENT = 0.3
# The graphics memory of an RTX 4090, in GB/s: it only scales the score.
REFERENCE_BANDWIDTH = 1_008.0
# A machine that served before is taken while it costs so much more an hour at most.
PROVEN_BONUS_USD = 0.05
# What the market's own total may differ from its parts.
TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class Job:
    """What the machine is for: so many hours, a model of so many GB (1e9 bytes) to load, so many GB sent from it."""

    hours: float
    model_gb: float = 0.0
    up_gb: float = 0.0


@dataclass(frozen=True, slots=True)
class Priced:
    """An offer and what it costs for the job.

    `gpu_usd` and `disk_usd` are for an hour, `download_usd` is all traffic, once. `effective_usd_per_hour` is `total_usd` (boot included)
    by the hours of the job. `score` orders: the effective price, dearer for unreliable machines and cheaper for fast graphics memory.
    """

    offer: MarketOffer
    gpu_usd: float
    disk_usd: float
    download_usd: float
    minutes_to_ready: float
    effective_usd_per_hour: float
    total_usd: float
    score: float
    notes: tuple[str, ...] = ()

    @property
    def hourly_usd(self) -> float:
        """What an hour bills while it runs."""
        return self.gpu_usd + self.disk_usd

    def as_dict(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in _PRICED}
        rounded = {name: round(value, 6) for name, value in own.items()}
        return self.offer.as_dict() | rounded | {"notes": list(self.notes)}


_PRICED = (
    "gpu_usd",
    "disk_usd",
    "download_usd",
    "minutes_to_ready",
    "effective_usd_per_hour",
    "total_usd",
    "score",
)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An offer that does not do, and everything that speaks against it."""

    offer: MarketOffer
    reasons: tuple[Reason, ...]

    def as_dict(self) -> dict[str, Any]:
        return self.offer.as_dict() | {"reasons": [reason.as_dict() for reason in self.reasons]}


@dataclass(frozen=True, slots=True)
class Ranking:
    """`chosen` best first, one offer of each machine; `rejected` in the market's order."""

    chosen: list[Priced]
    rejected: list[Rejected]


def rank(
    offers: Iterable[MarketOffer], wish: OfferWish, job: Job, machines: Mapping[int, MachineNote], now: datetime
) -> Ranking:
    """Part the offers into those that do, best first, and the others. The same offers give the same order."""
    fitting: list[Priced] = []
    rejected: list[Rejected] = []
    for offer in offers:
        against = reasons(offer, wish, machines, now, job.model_gb)
        if against:
            rejected.append(Rejected(offer, tuple(against)))
        else:
            fitting.append(price(offer, wish, job, machines.get(offer.machine_id)))
    chosen = _in_order(fitting, machines, now)
    return Ranking(*_one_of_each_machine(chosen, rejected))


def price(offer: MarketOffer, wish: OfferWish, job: Job, note: MachineNote | None = None) -> Priced:
    """What an offer costs for the job, with the disk of the wish."""
    disk = wish.disk_gb * offer.disk_usd_per_gb_month / HOURS_PER_MONTH
    gpu, notes = _gpu_price(offer, disk)
    ready_s = seconds_to_ready(offer, job, note)
    download = job.model_gb * offer.down_usd_per_gb + job.up_gb * offer.up_usd_per_gb
    total = (gpu + disk) * (job.hours + ready_s / 3600) + download
    effective = total / job.hours
    return Priced(
        offer,
        gpu_usd=gpu,
        disk_usd=disk,
        download_usd=download,
        minutes_to_ready=ready_s / 60,
        effective_usd_per_hour=effective,
        total_usd=total,
        score=effective * _penalty(offer, job),
        notes=(*notes, *_notes(note)),
    )


def seconds_to_ready(offer: MarketOffer, job: Job, note: MachineNote | None = None) -> float:
    """From the rent until the model is there: as measured on this machine where it was, else as vast facts §4.3 guesses."""
    boot = note.boot_s if note and note.boot_s else BOOT_S
    mbps = note.down_mbps if note and note.down_mbps else min(offer.down_mbps, MOST_MBPS) * EFFICIENCY
    return boot + 8_000 * job.model_gb / max(mbps, 1.0)


def proven(note: MachineNote | None, now: datetime) -> bool:
    """Whether a machine served before and has not failed since."""
    return note is not None and note.proven_at is not None and not failed_lately(note, now)


def _gpu_price(offer: MarketOffer, disk: float) -> tuple[float, tuple[str, ...]]:
    """The card's price an hour; where the market's total is more than its parts, the total holds, as it is what bills."""
    parts = offer.gpu_usd_per_hour + disk
    if offer.price_usd_per_hour <= parts * (1 + TOLERANCE):
        return offer.gpu_usd_per_hour, ()
    return offer.price_usd_per_hour - disk, (
        f"the market asks ${offer.price_usd_per_hour:.3f}/h in all, more than its parts",
    )


def _penalty(offer: MarketOffer, job: Job) -> float:
    """Without a model the card does nothing, so how fast it is does not matter."""
    unreliable = 1 + UNRELIABILITY_WEIGHT * (1 - offer.reliability)
    if not offer.memory_gb_per_s or not job.model_gb:
        return unreliable
    return float(unreliable * (REFERENCE_BANDWIDTH / offer.memory_gb_per_s) ** BANDWIDTH_EXPONENT)


def _notes(note: MachineNote | None) -> list[str]:
    if note is None:
        return []
    notes = ["served before"] if note.proven_at else []
    if note.tokens_per_second:
        notes.append(f"{note.tokens_per_second:.0f} tokens/s measured")
    return notes


def _in_order(fitting: list[Priced], machines: Mapping[int, MachineNote], now: datetime) -> list[Priced]:
    ordered = sorted(fitting, key=lambda each: (each.score, each.total_usd, each.offer.id))
    if not ordered:
        return []
    bound = ordered[0].effective_usd_per_hour + PROVEN_BONUS_USD

    def known_good(each: Priced) -> bool:
        return each.effective_usd_per_hour <= bound and proven(machines.get(each.offer.machine_id), now)

    return sorted(ordered, key=lambda each: not known_good(each))


def _one_of_each_machine(ordered: list[Priced], rejected: list[Rejected]) -> tuple[list[Priced], list[Rejected]]:
    """A machine lists many offers, and after a failure on one the others are no use (vast facts §4.2)."""
    best: dict[int, Priced] = {}
    others = []
    for each in ordered:
        taken = best.setdefault(each.offer.machine_id, each)
        if taken is not each:
            reason = Reason("same_machine", f"is on the machine of offer {taken.offer.id}, which is better")
            others.append(Rejected(each.offer, (reason,)))
    return list(best.values()), [*rejected, *others]


def without(ranking: Ranking, machine_ids: Iterable[int]) -> Ranking:
    """The ranking without machines that were tried already."""
    tried = set(machine_ids)
    return replace(ranking, chosen=[each for each in ranking.chosen if each.offer.machine_id not in tried])
