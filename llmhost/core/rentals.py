"""What the ledger keeps of rented machines: each attempt to rent, the terms of a fleet, the last inventory, and what is known of machines.

A rental is written down before the call that may bill, and never deleted: what was spent is read from here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

# intent: about to be rented · unknown: nobody knows · rented: bills, does not serve yet · ready: serves · destroying: its end is not
# verified yet · gone: verified · refused: never bought.
RentalState = Literal["intent", "unknown", "rented", "ready", "destroying", "gone", "refused"]
OPEN: tuple[RentalState, ...] = ("intent", "unknown", "rented", "ready", "destroying")
# What may follow what. A state may follow itself (a detail changed).
NEXT: dict[RentalState, tuple[RentalState, ...]] = {
    "intent": ("unknown", "rented", "refused", "destroying", "gone"),
    "unknown": ("rented", "refused", "destroying", "gone"),
    "rented": ("ready", "destroying", "gone"),
    "ready": ("destroying", "gone"),
    "destroying": ("gone",),
    "gone": (),
    "refused": (),
}


@dataclass(frozen=True, slots=True)
class Rental:
    """One attempt to rent a machine. Times RFC 3339 in UTC, prices USD.

    `label` is what the market knows it by, and the key here. `terms` are plain values: `disk_gb`, `down_usd_per_gb`, `up_usd_per_gb`,
    `disk_usd_per_gb_month`, `gpu_usd_per_hour`, `model_gb`, `image`, `account` (who pays). `phase` and `detail` are how far
    its boot is, for `status`
    (booting, ssh, ollama, model, proxy); `why` is why it was refused or ended. `spent_usd` is final once it is gone.
    """

    label: str
    fleet: str
    node_id: str
    state: RentalState
    created_at: str
    offer_id: int
    machine_id: int
    host_id: int
    gpu: str
    price_usd_per_hour: float
    terms: dict[str, Any] = field(default_factory=dict)
    provider: str = "vast"
    instance_id: int | None = None
    rented_at: str | None = None
    ready_at: str | None = None
    ended_at: str | None = None
    spent_usd: float | None = None
    phase: str | None = None
    detail: str | None = None
    why: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it may bill."""
        return self.state in OPEN


@dataclass(frozen=True, slots=True)
class Terms:
    """What was asked for of a fleet's money. `lease_ends_at` RFC 3339, None = no end; `idle_s` None = off; `budget_usd` None = none.

    `alerted` are the percentages of the budget that were told already; `wish` is what `up` was asked for (plain values), so that a second
    `up` knows it. The budget is for what was rented `since` then: keep it (`dataclasses.replace`) while the fleet has anything rented.
    """

    fleet: str
    lease_ends_at: str | None = None
    budget_usd: float | None = None
    idle_s: float | None = None
    max_price: float | None = None
    alerted: tuple[int, ...] = ()
    wish: dict[str, Any] = field(default_factory=dict)
    since: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the market said last that we have. `instances` as Instance.as_dict; `trouble` = why the newest question was not answered.

    `fetched_at` is the time of the last answer, RFC 3339; None = never asked.
    """

    fetched_at: str | None = None
    instances: tuple[dict[str, Any], ...] = ()
    credit_usd: float | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class MachineNote:
    """What is known of a market's machine: when it failed last and why, when it served last, and what was measured there."""

    machine_id: int
    failed_at: str | None = None
    why: str | None = None
    proven_at: str | None = None
    boot_s: float | None = None
    down_mbps: float | None = None
    tokens_per_second: float | None = None
