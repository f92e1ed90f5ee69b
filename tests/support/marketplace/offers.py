"""One offer, priced for the storage and the kind of rental asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

HOURS_PER_MONTH = (
    720.0  # storage is priced by the month of 30 days: `storage_cost * GB / 720` is exact (vast facts §2.3)
)
DEFAULT_STORAGE_GB = 8.0


@dataclass
class Offer:
    """One ask. `capacity` is how often it can be rented at the same time; `starts` is False when the machine cannot start it now."""

    id: int
    fields: dict[str, Any]
    base: float
    min_bid: float
    lasts_s: float
    capacity: int = 1
    rented: int = 0
    listed: bool = True
    starts: bool = True

    @property
    def machine_id(self) -> int:
        return int(self.fields["machine_id"])

    @property
    def rentable(self) -> bool:
        return self.listed and self.rented < self.capacity

    def price(self, storage_gb: float, bid: float | None = None) -> dict[str, float]:
        """Dollars an hour: `dph_base` for the cards, `storage_total_cost` for the disk, `dph_total` for both."""
        base = self.base if bid is None else bid
        disk = self.fields["storage_cost"] * storage_gb / HOURS_PER_MONTH
        return {"dph_base": base, "storage_total_cost": disk, "dph_total": base + disk}

    def row(self, now: float, storage_gb: float = DEFAULT_STORAGE_GB, *, as_bid: bool = False) -> dict[str, Any]:
        """The offer as the search shows it at `now`."""
        price = self.price(storage_gb, self.min_bid if as_bid else None)
        fields: dict[str, Any] = {**self.fields, **price, "min_bid": self.min_bid, "is_bid": as_bid}
        fields |= {"id": self.id, "ask_contract_id": self.id, "rentable": self.rentable, "rented": bool(self.rented)}
        fields |= {"start_date": now, "end_date": now + self.lasts_s, "duration": self.lasts_s}
        fields["search"], fields["instance"] = costs(price), costs(price)
        return fields | _per_dollar(fields)


def costs(price: dict[str, float]) -> dict[str, float]:
    """The breakdown that offers and instances carry."""
    return {
        "gpuCostPerHour": price["dph_base"],
        "diskHour": price["storage_total_cost"],
        "totalHour": price["dph_total"],
        "discountTotalHour": 0.0,
        "discountedTotalPerHour": price["dph_total"],
    }


def _per_dollar(fields: dict[str, Any]) -> dict[str, Any]:
    total = fields["dph_total"]
    return {
        "dlperf_per_dphtotal": fields["dlperf"] / total,
        "flops_per_dphtotal": fields["total_flops"] / total,
        "vram_costperhour": fields["dph_base"] / fields["gpu_total_ram"],
        "discounted_dph_total": total,
        "discounted_hourly": 0.0,
        "dph_total_adj": total,
        "discount_rate": 0.0,
        "score": fields["dlperf"] / total * fields["reliability"],
    }
