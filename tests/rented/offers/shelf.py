"""A market that only shows what a test puts there, and offers to put there."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from llmhost.core.errors import AuthenticationNeeded
from llmhost.core.settings import Settings
from llmhost.providers.market import Account, MarketOffer, OfferWish

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
WISH = OfferWish(gpus=("RTX 4090",), disk_gb=50.0, hours=4.0, min_vram_mb=20_454)


def offer(number=1, **fields):
    """One that fits WISH, but for what is said otherwise. Its price is its card's and the disk's, if no other is said."""
    known = {
        "id": number,
        "machine_id": 1000 + number,
        "host_id": 7,
        "gpu": "RTX 4090",
        "gpus": 1,
        "vram_mb": 24_564,
        "memory_mb": 64_000,
        "disk_gb": 400.0,
        "gpu_usd_per_hour": 0.36,
        "disk_usd_per_gb_month": 0.0,
        "down_mbps": 900.0,
        "up_mbps": 800.0,
        "down_usd_per_gb": 0.0,
        "up_usd_per_gb": 0.0,
        "reliability": 0.99,
        "verified": True,
        "datacenter": False,
        "static_ip": False,
        "region": "SE",
        "direct_ports": 100,
        "cuda": 12.8,
        "rentable": True,
        "rented": False,
        "memory_gb_per_s": 1008.0,
        "ends_in_s": 30 * 86_400.0,
    } | fields
    total = known["gpu_usd_per_hour"] + 50.0 * known["disk_usd_per_gb_month"] / 720
    return MarketOffer(**({"price_usd_per_hour": total} | known))


@dataclass
class Shelf:
    """Shows what it has of the cards wished for, as the seam wants it. `sees_credit`: whether the key may see it."""

    has: list
    sees_credit: bool = True
    asked: list = field(default_factory=list)
    name: str = "vast"

    def offers(self, wish):
        self.asked.append(wish)
        return [each for each in self.has if not wish.gpus or each.gpu in wish.gpus]

    def account(self):
        if not self.sees_credit:
            raise AuthenticationNeeded("the key may not do this.", code="no_permission")
        return Account(25.0)


def settings(**values):
    return Settings(**values)
