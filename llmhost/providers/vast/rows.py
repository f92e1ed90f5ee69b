"""The market's rows as values of the seam. Pure.

A row of an instance may be strange in every field but its id: it bills all the same, so it is kept with what can be read of it.
"""

from __future__ import annotations

import re
from typing import Any

from llmhost.providers.market import Instance, MarketOffer
from llmhost.providers.vast.failures import VastTrouble
from llmhost.providers.vast.values import flag, number, port, rounded, text, whole

CLAIM = "LLMHOST_CLAIM"
# Storage is priced by the month of 30 days; exact on the vendor's own example (vast facts §2.3).
HOURS_PER_MONTH = 720.0
PRICE_TOLERANCE = 0.02
DATACENTER = 1  # of `hosting_type` (vast facts §1.5)
LONGEST_MESSAGE = 4_000
_SSH = "22/tcp"
_CLAIMED = re.compile(rf"\b{CLAIM}=[\"']?([\w./-]+)")


def offer(row: Any, disk_gb: float) -> MarketOffer | None:
    """One row of a search, priced for a disk of `disk_gb`; None for one that could not be rented, told apart or paid for."""
    if not isinstance(row, dict):
        return None
    ask, machine, gpu = whole(row.get("id")), whole(row.get("machine_id")), text(row.get("gpu_name"))
    disk_price = number(row.get("storage_cost")) or 0.0
    prices = _prices(row, disk_gb * disk_price / HOURS_PER_MONTH)
    if ask is None or machine is None or gpu is None or prices is None:
        return None
    return MarketOffer(
        id=ask,
        machine_id=machine,
        host_id=whole(row.get("host_id")) or 0,
        gpu=gpu,
        gpus=whole(row.get("num_gpus")) or 0,
        gpu_usd_per_hour=prices[0],
        disk_usd_per_gb_month=disk_price,
        price_usd_per_hour=prices[1],
        **_machine(row),
        **_traffic(row),
        **_standing(row),
    )


def instance(row: Any) -> Instance:
    """One row of the list. Raises VastTrouble when it has no id: then the list is not known to be whole."""
    number_of = whole(row.get("id")) if isinstance(row, dict) else None
    if number_of is None:
        raise VastTrouble("vast.ai lists an instance without an id.", code="vast_answer", passing=True)
    return Instance(
        id=number_of,
        label=text(row.get("label")),
        claim=claim(row.get("extra_env")),
        machine_id=whole(row.get("machine_id")),
        host_id=whole(row.get("host_id")),
        image=text(row.get("image_uuid")),
        direct=_direct(row),
        proxy=_address(row.get("ssh_host"), row.get("ssh_port")),
        **_status(row),
        **_card(row),
        **_money(row),
    )


def claim(environment: Any) -> str | None:
    """Our label in `extra_env`, which comes as pairs, as an object, or as nothing (vast facts §1.5); also where it is one text, or several
    of the kind NAME=VALUE, as it was sent in earlier versions."""
    if isinstance(environment, dict):
        return text(environment.get(CLAIM))
    if found := _CLAIMED.search("\n".join(_texts(environment))):
        return found[1]
    pairs = environment if isinstance(environment, list) else []
    named = (pair[1] for pair in pairs if isinstance(pair, list | tuple) and len(pair) == 2 and pair[0] == CLAIM)
    return text(next(named, None))


def _texts(environment: Any) -> list[str]:
    entries = environment if isinstance(environment, list) else [environment]
    return [entry for entry in entries if isinstance(entry, str)]


def _prices(row: dict[str, Any], disk: float) -> tuple[float, float] | None:
    """USD an hour for the card alone and with the disk; the dearer one where the market's own sum differs."""
    base, total = number(row.get("dph_base")), number(row.get("dph_total"))
    if base is None:
        base = None if total is None else max(0.0, total - disk)
    if base is None or base < 0:
        return None
    price = base + disk
    if total is not None and abs(total - price) > PRICE_TOLERANCE * price:
        price = max(total, price)
    return base, price


def _machine(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "vram_mb": rounded(row.get("gpu_ram")) or 0,
        "memory_mb": rounded(row.get("cpu_ram")) or 0,
        "disk_gb": number(row.get("disk_space")) or 0.0,
        "disk_mb_per_s": number(row.get("disk_bw")),
        "memory_gb_per_s": number(row.get("gpu_mem_bw")),
        "cuda": number(row.get("cuda_max_good")) or 0.0,
        "driver": text(row.get("driver_version")),
    }


def _traffic(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "down_mbps": number(row.get("inet_down")) or 0.0,
        "up_mbps": number(row.get("inet_up")) or 0.0,
        "down_usd_per_gb": number(row.get("inet_down_cost")) or 0.0,
        "up_usd_per_gb": number(row.get("inet_up_cost")) or 0.0,
        "direct_ports": whole(row.get("direct_port_count")) or 0,
        "static_ip": flag(row.get("static_ip")),
    }


def _standing(row: dict[str, Any]) -> dict[str, Any]:
    reliability = number(row.get("reliability2"))
    return {
        "reliability": (number(row.get("reliability")) if reliability is None else reliability) or 0.0,
        "verified": row.get("verification") == "verified" or row.get("verified") is True,
        "datacenter": whole(row.get("hosting_type")) == DATACENTER or row.get("datacenter") is True,
        "region": region(row.get("geolocation")),
        "rentable": flag(row.get("rentable"), default=True),
        "rented": flag(row.get("rented")),
        "ends_in_s": number(row.get("duration")),
    }


def region(place: Any) -> str:
    """The country's two letters, as of `Sweden, SE`; the place itself where it ends in none; empty when nothing is said."""
    whole_place = text(place) or ""
    country = whole_place.rpartition(",")[2].strip()
    return country.upper() if len(country) == 2 else whole_place


def _status(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "actual": text(row.get("actual_status")),
        "intended": text(row.get("intended_status")),
        "current": text(row.get("cur_state")),
        "next": text(row.get("next_state")),
        "message": (text(row.get("status_msg")) or "")[-LONGEST_MESSAGE:],
        "started_at": number(row.get("start_date")),
        "ends_at": number(row.get("end_date")),
    }


def _card(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "gpu": text(row.get("gpu_name")),
        "gpus": whole(row.get("num_gpus")),
        "vram_mb": rounded(row.get("gpu_ram")),
        "disk_gb": number(row.get("disk_space")),
    }


def _money(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "price_usd_per_hour": number(row.get("dph_total")),
        "gpu_usd_per_hour": number(row.get("dph_base")),
        "disk_usd_per_gb_month": number(row.get("storage_cost")),
        "down_usd_per_gb": number(row.get("inet_down_cost")),
        "up_usd_per_gb": number(row.get("inet_up_cost")),
    }


def _direct(row: dict[str, Any]) -> tuple[str, int] | None:
    """The machine's own address and the port that leads to sshd; `machine_dir_ssh_port` is something else (vast facts §1.5)."""
    ports = row.get("ports")
    entries = ports.get(_SSH) if isinstance(ports, dict) else None
    entries = entries if isinstance(entries, list) else []
    found = (port(entry.get("HostPort")) for entry in entries if isinstance(entry, dict))
    return _address(row.get("public_ipaddr"), next((each for each in found if each is not None), None))


def _address(host: Any, at: Any) -> tuple[str, int] | None:
    name, number_of = text(host), port(at)
    return (name, number_of) if name and number_of else None
