"""Every offer: the same machines and asks every time.

The fields of a row are those that vast facts §1.5 names and the vendor's own example shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random
from typing import Any

from tests.support.marketplace.cards import CARDS, COUNTRIES, Card
from tests.support.marketplace.offers import Offer

FIRST_OFFER = 32_493_628
FIRST_MACHINE = 43_973


class Catalogue:
    """Every offer, in the order of their ids."""

    def __init__(self, offers: Iterable[Offer]) -> None:
        self._offers = {offer.id: offer for offer in offers}

    @classmethod
    def usual(cls) -> Catalogue:
        return cls(all_offers())

    def __iter__(self) -> Iterator[Offer]:
        return iter(list(self._offers.values()))

    def __getitem__(self, number: int) -> Offer:
        return self._offers[number]

    def get(self, number: int) -> Offer | None:
        return self._offers.get(number)

    def of(self, gpu_name: str) -> list[Offer]:
        return [offer for offer in self if offer.fields["gpu_name"] == gpu_name]

    def keep_only(self, *numbers: int) -> None:
        """Take every other offer off the market."""
        self._offers = {number: self._offers[number] for number in numbers}


def all_offers() -> Iterator[Offer]:
    """The same every time."""
    number, machine = FIRST_OFFER, FIRST_MACHINE
    for card in CARDS:
        for nth in range(card.machines):
            dice = Random(machine)
            place = _machine(card, machine, nth, dice)
            for cards in _sizes(card, nth):
                yield _offer(number, card, cards, place, dice)
                number += 7
            machine += 13


def _sizes(card: Card, nth: int) -> list[int]:
    """How many cards each ask of one machine has: most have one; every sixth machine of a big one lists a half and the whole too."""
    if card.most_per_machine == 1 or nth % 6 != 5:
        return [1]
    return [1, card.most_per_machine // 2, card.most_per_machine]


def _machine(card: Card, machine: int, nth: int, dice: Random) -> dict[str, Any]:
    fast = dice.choice((180.0, 480.0, 812.4, 903.1, 1980.0, 4210.0))
    free_traffic = dice.random() < 0.4
    fields: dict[str, Any] = {
        "machine_id": machine,
        "host_id": 307_092 + machine % 29,
        "geolocation": COUNTRIES[machine % len(COUNTRIES)],
        "public_ipaddr": f"203.0.113.{1 + machine % 250}",
        "inet_down": fast,
        "inet_up": round(fast * dice.uniform(0.4, 1.0), 1),
        "inet_down_cost": 0.0 if free_traffic else dice.choice((0.002, 0.005, 0.013, 0.039)),
        "inet_up_cost": 0.0 if free_traffic else dice.choice((0.002, 0.005, 0.013, 0.039)),
        "storage_cost": dice.choice((0.10, 0.15, 0.2, 0.3)),
        "disk_bw": dice.choice((512.0, 1203.7, 3051.2, 5120.0)),
        "disk_space": dice.choice((38.0, 96.4, 412.6, 1630.2)),
        "reliability": _reliability(nth, dice),
        "verification": "unverified" if nth % 9 == 7 else "verified",
        "hosting_type": 1 if machine % 5 == 0 else 0,
        "static_ip": machine % 5 == 0 or dice.random() < 0.3,
        "direct_port_count": 0 if nth % 11 == 8 else dice.choice((12, 100, 250)),
        "external": True if nth % 23 == 19 else None,
        "cuda_max_good": dice.choice((12.2, 12.4, 12.8, 13.0)) if card.compute_cap < 1200 else 12.8,
        "lasts_s": dice.choice((6 * 3600.0, 9 * 86_400.0, 1_760_530.6, 90 * 86_400.0)),
        "cpu_ram": dice.choice((15_890, 32_768, 64_133, 128_576)),
        "pcie": dice.choice((12.1, 24.8, 51.9)),
    }
    return (fields | _EXAMPLE) if machine == FIRST_MACHINE else fields


# The first machine is the one of the example rows in vast facts §5.
_EXAMPLE = {
    "geolocation": "Sweden, SE",
    "host_id": 307_092,
    "public_ipaddr": "203.0.113.42",
    "inet_down": 903.1,
    "inet_up": 812.4,
    "inet_down_cost": 0.002,
    "inet_up_cost": 0.002,
    "storage_cost": 0.2,
    "disk_bw": 3051.2,
    "disk_space": 412.6,
    "reliability": 0.9971,
    "verification": "verified",
    "hosting_type": 0,
    "static_ip": False,
    "direct_port_count": 100,
    "external": None,
    "cuda_max_good": 12.8,
    "lasts_s": 1_760_530.6,
    "cpu_ram": 64_133,
}


def _reliability(nth: int, dice: Random) -> float:
    if nth % 10 == 6:
        return round(dice.uniform(0.60, 0.94), 4)
    return round(dice.uniform(0.972, 0.9995), 4)


def _offer(number: int, card: Card, cards: int, place: dict[str, Any], dice: Random) -> Offer:
    base = 0.3467 if number == FIRST_OFFER else round(dice.uniform(card.low, card.high), 4)
    share = cards / max(card.most_per_machine, cards) if card.most_per_machine > 1 and cards > 1 else 1.0
    fields = {key: value for key, value in place.items() if key not in ("lasts_s", "pcie")}
    fields |= _card_fields(card, cards) | _rest(number, share, place)
    return Offer(number, fields, base * cards, round(base * cards * 0.54, 4), place["lasts_s"])


def _card_fields(card: Card, cards: int) -> dict[str, Any]:
    return {
        "gpu_name": card.name,
        "num_gpus": cards,
        "gpu_ram": card.ram_mb,
        "gpu_total_ram": card.ram_mb * cards,
        "gpu_mem_bw": card.bandwidth,
        "gpu_arch": "nvidia",
        "gpu_max_power": float(card.watts),
        "gpu_max_temp": 90.0,
        "compute_cap": card.compute_cap,
        "dlperf": card.dlperf * cards,
        "total_flops": card.tflops * cards,
        "bw_nvlink": 300.0 if "SXM" in card.name and cards > 1 else 0.0,
        "cpu_cores_effective": 16.0 * cards,
    }


def _rest(number: int, share: float, place: dict[str, Any]) -> dict[str, Any]:
    """What hardly anybody looks at, so that a row has all the fields a real one has."""
    cuda = place["cuda_max_good"]
    driver = {12.2: "535.183.01", 12.4: "550.144.03", 12.8: "570.124.06", 13.0: "580.95.05"}[cuda]
    return _MACHINE_REST | {
        "bundle_id": number + 900_000_000,
        "avail_vol_ask_id": number + 1,
        "gpu_frac": share,
        "gpu_ids": [number % 90_000, number % 90_000 + 1],
        "driver_version": driver,
        "driver_vers": int("".join(part.zfill(3) for part in driver.split("."))),
        "geolocode": sum(map(ord, place["geolocation"])),
        "internet_down_cost_per_tb": place["inet_down_cost"] * 1000,
        "internet_up_cost_per_tb": place["inet_up_cost"] * 1000,
        "pcie_bw": place["pcie"],
        "reliability2": place["reliability"],
        "expected_reliability": place["reliability"],
    }


_MACHINE_REST: dict[str, Any] = {
    "avail_vol_dph": 0.0003,
    "avail_vol_size": 200.0,
    "bundled_results": None,
    "cluster_id": None,
    "cpu_arch": "amd64",
    "cpu_cores": 64,
    "cpu_ghz": 3.0,
    "cpu_name": "Imaginary 64-Core Processor",
    "credit_discount_max": 0.1,
    "disk_name": "nvme",
    "gpu_display_active": False,
    "gpu_lanes": 16,
    "has_avx": 1,
    "hostname": None,
    "is_vm_deverified": False,
    "logo": "/static/logos/vastai_small2.png",
    "mobo_name": "IMAGINED-8",
    "nw_disk_avg_bw": None,
    "nw_disk_max_bw": None,
    "nw_disk_min_bw": None,
    "os_version": "22.04",
    "pci_gen": 4.0,
    "reliability_mult": 1.0,
    "resource_type": "gpu",
    "rn": 1,
    "time_remaining": "",
    "time_remaining_isbid": "",
    "vericode": 1,
    "vms_enabled": False,
    "webpage": None,
}
