"""A marketplace in memory, behind the seam: what it answers can differ from what it does, by script."""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace

from llmhost.core.errors import AuthenticationNeeded, Unavailable
from llmhost.fleet.rented.ownership import CLAIM
from llmhost.providers.market import Account, Instance, MarketOffer, Refused, Rented, Unknown

PRICE = 0.36


def offer(number: int = 1, price: float = PRICE) -> MarketOffer:
    return MarketOffer(
        id=32_000_000 + number,
        machine_id=40_000 + number,
        host_id=300 + number,
        gpu="RTX 4090",
        gpus=1,
        vram_mb=24_564,
        memory_mb=64_000,
        disk_gb=400.0,
        gpu_usd_per_hour=price - 0.02,
        disk_usd_per_gb_month=0.2,
        price_usd_per_hour=price,
        down_mbps=900.0,
        up_mbps=800.0,
        down_usd_per_gb=0.002,
        up_usd_per_gb=0.002,
        reliability=0.99,
        verified=True,
        datacenter=False,
        static_ip=False,
        region="SE",
        direct_ports=100,
        cuda=12.8,
        rentable=True,
        rented=False,
    )


@dataclass
class Answer:
    """What a rent makes (`makes` machines) and what is said about it.

    `said`: `ok`, `unknown`, `raises`, a reason to refuse, or a reason with `+id` (the refusal carries the id of what was made).
    """

    said: str = "ok"
    makes: int = 1
    price: float | None = None
    labelled: bool = True
    claimed: bool = True
    retry_after_s: float | None = None


@dataclass
class _Made:
    instance: Instance
    shown_at: float
    alive: bool = True


@dataclass
class MemoryMarket:
    """`answers` are for the next rents, one each. `lists` for the next lists: `down`, `auth`, `empty`, `twice`, `half`; `always_list`
    for all after them. `ends`: `fail`, `done but fail`, `lie`; `always_end`. `lag_s` is how long the list does not show what is new."""

    lag_s: float = 0.0
    answers: deque = field(default_factory=deque)
    lists: deque = field(default_factory=deque)
    ends: deque = field(default_factory=deque)
    always_list: str = ""
    always_end: str = ""
    stop_ends: bool = False
    name: str = "vast"
    account_id: str | None = None
    orders: list = field(default_factory=list)
    calls: list = field(default_factory=list)

    def __post_init__(self):
        self._lock = threading.RLock()
        self._made: dict[int, _Made] = {}
        self._ids = itertools.count(33_402_296, 11)

    # ── the seam ────────────────────────────────────────────────────────────────────────────────────────────────

    def account(self):
        return Account(25.0)

    def offers(self, wish):
        return [offer(number) for number in range(1, 5)]

    def rent(self, offer, order):
        with self._lock:
            self.calls.append("rent")
            self.orders.append(order)
            answer = self.answers.popleft() if self.answers else Answer()
            made = [self._make(offer, order, answer) for _ in range(answer.makes)]
            return self._said(answer, made)

    def instances(self):
        with self._lock:
            self.calls.append("list")
            how = self.lists.popleft() if self.lists else self.always_list
            if how == "down":
                raise Unavailable("the marketplace does not answer.")
            if how == "auth":
                raise AuthenticationNeeded("the key is not accepted.", code="bad_key")
            now = time.monotonic()
            shown = [each.instance for each in self._made.values() if each.alive and each.shown_at <= now]
            return {"empty": [], "twice": shown + shown[::-1], "half": shown[1::2]}.get(how, shown)

    def destroy(self, instance_id):
        with self._lock:
            self.calls.append("destroy")
            how = self.ends.popleft() if self.ends else self.always_end
            made = self._made.get(instance_id)
            if made is not None and how in ("", "done but fail"):
                made.alive = False
            if how in ("fail", "done but fail"):
                raise Unavailable("the marketplace does not answer.")

    def stop(self, instance_id):
        with self._lock:
            self.calls.append("stop")
            if self.stop_ends:
                self.always_end = ""

    def logs(self, instance_id, lines=200, contains=None):
        return ""

    def register_key(self, public_key):
        pass

    def attach_key(self, instance_id, public_key):
        pass

    # ── what a test does and sees ───────────────────────────────────────────────────────────────────────────────

    def billing(self):
        """The ids of everything that exists."""
        with self._lock:
            return {number for number, made in self._made.items() if made.alive}

    def heal(self):
        """All is well from now on."""
        with self._lock:
            for script in (self.answers, self.lists, self.ends):
                script.clear()
            self.always_list = self.always_end = ""

    def change(self, number, **fields):
        """Somebody renames it, it costs more …"""
        with self._lock:
            self._made[number].instance = replace(self._made[number].instance, **fields)

    def revive(self, number):
        with self._lock:
            self._made[number].alive = True

    def vanish(self, number):
        with self._lock:
            self._made[number].alive = False

    def foreign(self, label=None, claim=None):
        """Somebody else rents; the id."""
        with self._lock:
            number = next(self._ids)
            self._made[number] = _Made(Instance(number, label, claim, price_usd_per_hour=1.0), 0.0)
            return number

    # ────────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _make(self, offer, order, answer):
        number = next(self._ids)
        instance = Instance(
            number,
            label=order.label if answer.labelled else None,
            claim=order.env.get(CLAIM) if answer.claimed else None,
            machine_id=offer.machine_id,
            host_id=offer.host_id,
            gpu=offer.gpu,
            price_usd_per_hour=answer.price or offer.price_usd_per_hour,
            started_at=None,
        )
        self._made[number] = _Made(instance, time.monotonic() + self.lag_s)
        return number

    def _said(self, answer, made):
        if answer.said == "raises":
            raise Unavailable("cannot reach the marketplace.")
        if answer.said == "ok":
            return Rented(made[0])
        if answer.said == "unknown":
            return Unknown("the connection was closed")
        reason, _, with_id = answer.said.partition("+")
        return Refused(reason, f"the market says {reason}.", answer.retry_after_s, made[0] if with_id else None)
