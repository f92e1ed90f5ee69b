"""The seam to a marketplace that rents machines by the hour: its values, and what one answer of it can mean.

Every method makes one attempt; loops, patience, money and the ledger are above (fleet.rented). Prices are USD, sizes as the names say.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

Trust = Literal["any", "verified", "datacenter"]
# Why nothing was rented. Only `offer_gone` and `server` are reasons to take another offer.
RefusalReason = Literal[
    "offer_gone",
    "insufficient_credit",
    "spend_limit",
    "auth",
    "permission",
    "rate_limited",
    "invalid_request",
    "server",
]


@dataclass(frozen=True, slots=True)
class OfferWish:
    """What a machine must have. `gpus` are names as the market writes them (`RTX 4090`); `hours` how long it must stay so.

    Memory in MiB, `disk_gb` what will be rented, `min_down_mbps` in Mbit/s, `max_price` USD an hour with that disk. `regions` are
    two-letter country codes, none = everywhere; `offer_id` = this one or none.
    """

    gpus: tuple[str, ...]
    disk_gb: float
    hours: float
    min_vram_mb: int = 0
    min_memory_mb: int = 32_000
    min_reliability: float = 0.98
    min_down_mbps: float = 500.0
    min_cuda: float = 12.4
    trust: Trust = "verified"
    static_ip: bool = False
    regions: tuple[str, ...] = ()
    max_price: float | None = None
    offer_id: int | None = None


@dataclass(frozen=True, slots=True)
class MarketOffer:
    """A machine for rent, as the market describes it. None = not said.

    `price_usd_per_hour` is with the wished disk: `gpu_usd_per_hour` + disk × `disk_usd_per_gb_month` / 720 (vast facts §2.3).
    `memory_gb_per_s` is the graphics memory's bandwidth; `disk_mb_per_s` the disk's; `ends_in_s` until the host takes the machine back.
    """

    id: int
    machine_id: int
    host_id: int
    gpu: str
    gpus: int
    vram_mb: int
    memory_mb: int
    disk_gb: float
    gpu_usd_per_hour: float
    disk_usd_per_gb_month: float
    price_usd_per_hour: float
    down_mbps: float
    up_mbps: float
    down_usd_per_gb: float
    up_usd_per_gb: float
    reliability: float
    verified: bool
    datacenter: bool
    static_ip: bool
    region: str
    direct_ports: int
    cuda: float
    rentable: bool
    rented: bool
    disk_mb_per_s: float | None = None
    memory_gb_per_s: float | None = None
    ends_in_s: float | None = None
    driver: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Order:
    """What is sent with a rent. Nothing in it may be secret: the market and the host can read all of it (vast facts §4.6)."""

    label: str
    image: str
    disk_gb: float
    onstart: str
    env: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rented:
    """It is ours and bills."""

    instance_id: int


@dataclass(frozen=True, slots=True)
class Refused:
    """The market said no. `instance_id` = what it made, and may bill, all the same (vast facts §1.5)."""

    reason: RefusalReason
    message: str
    retry_after_s: float | None = None
    instance_id: int | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows whether something was rented."""

    why: str


RentOutcome = Rented | Refused | Unknown


@dataclass(frozen=True, slots=True)
class Instance:
    """Something rented. `claim` is our label, kept in its environment, which survives a rename. Addresses are (host, port).

    `actual`, `intended`, `current`, `next` and `message` are the market's status fields, to be read together (vast facts §2.1); times are
    seconds since 1970.
    """

    id: int
    label: str | None = None
    claim: str | None = None
    machine_id: int | None = None
    host_id: int | None = None
    actual: str | None = None
    intended: str | None = None
    current: str | None = None
    next: str | None = None
    message: str = ""
    gpu: str | None = None
    gpus: int | None = None
    vram_mb: int | None = None
    price_usd_per_hour: float | None = None
    gpu_usd_per_hour: float | None = None
    disk_gb: float | None = None
    disk_usd_per_gb_month: float | None = None
    down_usd_per_gb: float | None = None
    up_usd_per_gb: float | None = None
    started_at: float | None = None
    ends_at: float | None = None
    direct: tuple[str, int] | None = None
    proxy: tuple[str, int] | None = None
    image: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Instance:
        """Read what `as_dict` wrote, JSON's lists for tuples included."""
        known = {name: value for name, value in data.items() if name in cls.__dataclass_fields__}
        for name in ("direct", "proxy"):
            known[name] = (str(known[name][0]), int(known[name][1])) if known.get(name) else None
        return cls(**known)


@dataclass(frozen=True, slots=True)
class Account:
    """`credit_usd` is what can be spent; `id` tells one account from another. None = not said, or the key may not see it."""

    credit_usd: float | None = None
    email: str | None = None
    ssh_keys: tuple[str, ...] | None = None
    id: str | None = None


class Market(Protocol):
    """A marketplace. Everything that reads raises AuthenticationNeeded (`bad_key`, `no_permission`) or Unavailable.

    Unavailable means: nothing is known. A list is whole or it is an error. `account_id` is that of the last `account`, without asking:
    None = not asked yet, or not said.
    """

    name: str
    account_id: str | None

    def account(self) -> Account: ...

    def offers(self, wish: OfferWish) -> list[MarketOffer]:
        """All that the market has for the GPUs and the disk of the wish, in the market's order; NOT filtered further (fleet ranks, and
        explains what does not fit)."""
        ...

    def rent(self, offer: MarketOffer, order: Order) -> RentOutcome:
        """One attempt to rent, never repeated. Never raises for what the market or the network does."""
        ...

    def instances(self) -> list[Instance]:
        """Everything of the account, ours or not."""
        ...

    def destroy(self, instance_id: int) -> None:
        """One attempt; gone already is success."""
        ...

    def stop(self, instance_id: int) -> None:
        """One attempt: `state: stopped`, for what would not be destroyed."""
        ...

    def logs(self, instance_id: int, lines: int = 200, contains: str | None = None) -> str:
        """The container's output, bounded in time; Unavailable when it cannot be had."""
        ...

    def register_key(self, public_key: str) -> None:
        """Let machines that are rented from now on accept this key; there already is success."""
        ...

    def attach_key(self, instance_id: int, public_key: str) -> None:
        """Let one machine accept this key; there already is success."""
        ...
