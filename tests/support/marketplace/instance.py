"""One rented instance: its contract, its state and its bill."""

from __future__ import annotations

import secrets
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from tests.support.marketplace.billing import Bill
from tests.support.marketplace.machine import Machine
from tests.support.marketplace.offers import Offer
from tests.support.marketplace.scenarios import Script


@dataclass
class Instance:
    """`script` is what is still to happen, the first step of it `script[0].after` seconds (times the pace) after `since`.

    The five status fields are those of vast facts §2.1. `destroyed_at` is None while it exists. `up` is whether its container runs.
    """

    id: int
    offer: Offer
    machine: Machine
    disk: float
    image: str
    created: float
    ends: float
    runtype: str = "ssh ssh_proxy"
    label: str | None = None
    onstart: str = ""
    env: list[list[str]] = field(default_factory=list)
    bid: float | None = None
    dearer: float = 0.0
    keys: list[str] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    script: Script = field(default_factory=list)
    since: float = 0.0
    ports_hidden: bool = False
    up: bool = False
    offline: bool = False
    destroyed_at: float | None = None
    pending_price: dict[str, Any] | None = None
    booting: Future[None] | None = None
    last_job: Future[None] | None = None
    key: str = field(default_factory=lambda: secrets.token_hex(32))
    jupyter_token: str = field(default_factory=lambda: secrets.token_hex(32))
    daemon_log: list[str] = field(default_factory=list)
    bill: Bill = field(default_factory=Bill)
    authorized_at: float = 0.0

    @property
    def alive(self) -> bool:
        return self.destroyed_at is None

    def price(self) -> dict[str, float]:
        price = self.offer.price(self.disk, self.bid)
        base = price["dph_base"] + self.dearer
        return price | {"dph_base": base, "dph_total": base + price["storage_total_cost"]}

    def rates(self) -> tuple[float, float]:
        """Dollars an hour for the cards and for the disk at the moment (vast facts §2.3; what loads is taken to be billed)."""
        if not self.alive or self.offline:
            return 0.0, 0.0
        price = self.price()
        active = self.status["cur_state"] == "running" and self.status["actual_status"] not in ("exited", "stopped")
        return price["dph_base"] if active else 0.0, price["storage_total_cost"]

    def set(self, changes: dict[str, Any]) -> None:
        """Change status fields; what they say of the image is filled in, and the daemon's log keeps it."""
        msg = changes.get("status_msg")
        if msg is not None:
            changes = changes | {"status_msg": self._about_image(msg)}
        self.status |= changes
        self.daemon_log.append(" ".join(f"{key}={value}" for key, value in changes.items()).strip())

    def _about_image(self, msg: str) -> str:
        return msg.replace("{image_}", self.image.replace(":", "_")).replace("{image}", self.image)


def fresh_status() -> dict[str, Any]:
    """Just created: asked to run, and no container yet."""
    return {
        "actual_status": None,
        "intended_status": "running",
        "cur_state": "running",
        "next_state": "running",
        "status_msg": None,
    }
