"""Whether an offer is what was wished for, checked here again, because a market's own filters may be wrong or newer than we know."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from llmhost.core.rentals import MachineNote
from llmhost.fleet.rented import gpu_names
from llmhost.providers.market import MarketOffer, OfferWish

# A machine that failed is left alone for so long (vast facts §4.3).
SHUNNED = timedelta(days=7)
# Values that a wish is relaxed to.
RELIABILITY_STEPS = (0.98, 0.95, 0.9, 0.8, 0.6, 0.0)
PRICE_STEP = 0.05
# Sums of prices are no exact numbers.
SAME_PRICE = 1e-6
MBPS_STEP = 50
# The system, Ollama and its buffers, beside the model.
BESIDES_MODEL_GB = 15.0


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an offer does not do: `code` stable, `text` a phrase about the offer.

    `option` is what the user could say instead, None when nothing helps; `change` is the same as a field of the wish and its value.
    """

    code: str
    text: str
    option: str | None = None
    change: tuple[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"code": self.code, "text": self.text, "option": self.option}


def reasons(
    offer: MarketOffer, wish: OfferWish, machines: Mapping[int, MachineNote], now: datetime, model_gb: float = 0.0
) -> list[Reason]:
    """Everything that speaks against an offer, none = it does. `model_gb` bounds how far the disk may be relaxed."""
    return [reason for check in _CHECKS for reason in check(offer, wish)] + [
        *_disk(offer, wish, model_gb),
        *_failed(offer, machines.get(offer.machine_id), now),
    ]


def failed_lately(note: MachineNote | None, now: datetime) -> bool:
    """Whether a machine failed within the last 7 days and has not served since."""
    if note is None or note.failed_at is None or (note.proven_at or "") > note.failed_at:
        return False
    return now - _time(note.failed_at) < SHUNNED


def country(offer: MarketOffer) -> str:
    """The two letters at the end of `Sweden, SE`."""
    return offer.region.rpartition(",")[2].strip().upper()


def _which(offer: MarketOffer, wish: OfferWish) -> Iterator[Reason]:
    if wish.offer_id is not None and offer.id != wish.offer_id:
        yield Reason("other_offer", f"is not offer {wish.offer_id}")
    if wish.gpus and offer.gpu not in wish.gpus:
        yield Reason("gpu", f"is a {offer.gpu}")
    if offer.gpus != 1:
        yield Reason("gpus", f"has {offer.gpus} cards, which are only let together")
    if not offer.rentable:
        yield Reason("not_rentable", "cannot be rented now")
    elif offer.rented:
        yield Reason("rented", "is rented already")


def _machine(offer: MarketOffer, wish: OfferWish) -> Iterator[Reason]:
    if offer.vram_mb < wish.min_vram_mb:
        yield Reason("vram", f"has {offer.vram_mb:,} MiB of graphics memory, the model needs {wish.min_vram_mb:,}")
    cuda = gpu_names.min_cuda(offer.gpu, wish.min_cuda)
    if offer.cuda < cuda:
        yield Reason("cuda", f"has a driver for CUDA {offer.cuda:g}, not {cuda:g}")
    if offer.direct_ports < 1:
        yield Reason("no_port", "has no port that is open to the outside")
    if offer.memory_mb < wish.min_memory_mb:
        gb = offer.memory_mb // 1000
        text = f"has {offer.memory_mb / 1000:.1f} GB of memory, less than {wish.min_memory_mb / 1000:g}"
        yield Reason("memory", text, f"LLMHOST_VAST_MIN_MEMORY_GB={gb}", ("min_memory_mb", gb * 1000))


def _network(offer: MarketOffer, wish: OfferWish) -> Iterator[Reason]:
    if offer.down_mbps < wish.min_down_mbps:
        mbps = int(offer.down_mbps // MBPS_STEP * MBPS_STEP)
        text = f"loads {offer.down_mbps:.0f} Mbit/s, less than {wish.min_down_mbps:g}"
        yield Reason("down", text, f"LLMHOST_VAST_MIN_DOWN_MBPS={mbps}", ("min_down_mbps", float(mbps)))
    if wish.static_ip and not offer.static_ip:
        yield Reason("static_ip", "has no fixed address", "LLMHOST_VAST_STATIC_IP=false", ("static_ip", False))


def _host(offer: MarketOffer, wish: OfferWish) -> Iterator[Reason]:
    if offer.reliability < wish.min_reliability:
        step = next((step for step in RELIABILITY_STEPS if step <= offer.reliability), 0.0)
        text = f"has a reliability of {offer.reliability:.3f}, less than {wish.min_reliability:g}"
        yield Reason("reliability", text, f"--min-reliability {step:g}", ("min_reliability", step))
    if wish.trust == "datacenter" and not offer.datacenter:
        step_down = "verified" if offer.verified else "any"
        yield Reason("trust", "is not in a datacenter", f"--trust {step_down}", ("trust", step_down))
    if wish.trust == "verified" and not (offer.verified or offer.datacenter):
        yield Reason("trust", "is not verified", "--trust any", ("trust", "any"))
    if wish.regions and country(offer) not in wish.regions:
        yield Reason("region", f"is in {country(offer) or 'an unknown country'}", "--region any", ("regions", ()))


def _terms(offer: MarketOffer, wish: OfferWish) -> Iterator[Reason]:
    if wish.max_price is not None and offer.price_usd_per_hour > wish.max_price + SAME_PRICE:
        price = round(math.ceil(round(offer.price_usd_per_hour / PRICE_STEP, 6)) * PRICE_STEP, 2)
        text = f"costs ${offer.price_usd_per_hour:.3f}/h, more than ${wish.max_price:g}"
        yield Reason("price", text, f"--max-price {price:g}", ("max_price", price))
    if offer.ends_in_s is not None and offer.ends_in_s < wish.hours * 3600:
        hours = int(offer.ends_in_s // 3600)
        text = f"can be had for {offer.ends_in_s / 3600:.1f} h, less than {wish.hours:g}"
        yield Reason("ends", text, f"--lease {hours}h", ("hours", float(hours))) if hours else Reason("ends", text)


def _disk(offer: MarketOffer, wish: OfferWish, model_gb: float) -> Iterator[Reason]:
    if offer.disk_gb >= wish.disk_gb:
        return
    text = f"has {offer.disk_gb:.0f} GB of disk, less than {wish.disk_gb:g}"
    gb = math.floor(offer.disk_gb)
    enough = gb >= model_gb + BESIDES_MODEL_GB
    yield Reason("disk", text, f"--disk {gb}", ("disk_gb", float(gb))) if enough else Reason("disk", text)


def _failed(offer: MarketOffer, note: MachineNote | None, now: datetime) -> Iterator[Reason]:
    if note is not None and note.failed_at is not None and failed_lately(note, now):
        why = f": {note.why}" if note.why else ""
        yield Reason("failed_lately", f"is machine {offer.machine_id}, which failed on {note.failed_at[:10]}{why}")


def _time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


_CHECKS: tuple[Callable[[MarketOffer, OfferWish], Iterator[Reason]], ...] = (_which, _machine, _network, _host, _terms)
