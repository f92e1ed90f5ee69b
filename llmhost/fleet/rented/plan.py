"""What `up` would do with rented machines: values, and what follows from them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from llmhost.core.errors import NothingSuitable
from llmhost.core.ledger import GatewayRecord, NodeRecord
from llmhost.core.rentals import Rental, Terms
from llmhost.fleet.desired import VAST
from llmhost.fleet.offers import Survey
from llmhost.fleet.rented import bill
from llmhost.fleet.rented.change import Change
from llmhost.fleet.rented.ranking import Priced
from llmhost.fleet.rented.request import RentWish
from llmhost.providers.base import BackendChoice, Offer

# What must be left of the credit after the first hour (vast facts §4.4).
FLOOR_USD = 1.0
Action = Literal["create", "replace", "extend", "change", "replace_gateway", "keep"]


@dataclass(frozen=True, slots=True)
class Seat:
    """One node that is to be rented. `uuid` (12 hexadecimal digits) is the node's in its labels; `alias` is the name its host key is

    pinned under, and that of its folder over there.
    """

    node_id: str
    uuid: str
    alias: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A node that stays, and what is rented for it."""

    node: NodeRecord
    rental: Rental


@dataclass(frozen=True, slots=True)
class Money:
    """What it may cost. `lease_ends_at` in seconds since 1970, None = no end; `credit_usd` None = not known."""

    credit_usd: float | None = None
    lease_ends_at: float | None = None
    budget_usd: float | None = None
    spent_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class RentedPlan:
    """Nodes and a gateway. `offers` are those of the seats, in their order, and then the spares.

    `leaving` are nodes that the new ones take the place of, `lost` those whose machine is gone already, `leftovers` what is rented and
    serves nobody, `changed` what is to serve something else. `terms` are what will hold. `made_at` is the time of it (seconds since 1970),
    `onstart` what the first machine would run at its start.
    """

    fleet: str
    wish: RentWish
    choice: BackendChoice
    kept: tuple[Kept, ...]
    seats: tuple[Seat, ...]
    offers: tuple[Priced, ...]
    leaving: tuple[str, ...]
    lost: tuple[str, ...]
    gateway: GatewayRecord
    action: Action
    tunnel: bool
    money: Money
    terms: Terms
    disk_gb: float
    made_at: float
    onstart: str | None = None
    survey: Survey | None = None
    leftovers: tuple[Rental, ...] = ()
    changed: tuple[Change, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def provider(self) -> str:
        return VAST

    @property
    def warnings(self) -> list[str]:
        return list(dict.fromkeys((*self.choice.notes, *self.notes)))

    @property
    def taken(self) -> tuple[Priced, ...]:
        """The offers that are tried first."""
        return self.offers[: len(self.seats)]

    @property
    def new_usd_per_hour(self) -> float:
        """Of what is to be rented."""
        return sum(one.offer.price_usd_per_hour for one in self.taken)

    @property
    def usd_per_hour(self) -> float:
        """Of the fleet as it will be."""
        return self.new_usd_per_hour + sum(bill.price(one.rental) for one in self.kept)

    @property
    def download_usd(self) -> float:
        return sum(one.download_usd for one in self.taken)

    @property
    def hours(self) -> float | None:
        """How long it lasts at the most; None = without end."""
        ends = self.money.lease_ends_at
        return None if ends is None else max(0.0, (ends - self.made_at) / bill.HOUR_S)

    @property
    def worst_case_usd(self) -> float | None:
        """From now to the end of the lease; None = without end. What was spent so far is spent."""
        return None if self.hours is None else self.usd_per_hour * self.hours + self.download_usd

    def as_dict(self) -> dict[str, Any]:
        """The contract's `data.plan`, with every node."""
        nodes = [*(one.node.id for one in self.kept), *(seat.node_id for seat in self.seats)]
        return {
            "provider": VAST,
            "fleet": self.fleet,
            "action": self.action,
            "node": ", ".join(nodes),
            "nodes": [*map(self._kept_view, self.kept), *self._seat_views()],
            "leaving": list(self.leaving),
            "lost": list(self.lost),
            "backend": self.choice.backend,
            "model": self.choice.model,
            "context": self.choice.context,
            "pull": self.choice.missing and bool(self.seats or self.changed),
            "starts_ollama": False,
            "why": self._why(),
            "changes": list(self.changes),
            "port": self.gateway.port,
            "port_explicit": self.gateway.explicit,
            "tunnel": self.tunnel,
            "sources": self.sources,
            "offers": [_offer_view(one) for one in self.taken],
            "spare_offers": [_offer_view(one) for one in self.offers[len(self.seats) :]],
            **self._money_view(),
            "onstart": self.onstart,
        }

    def _money_view(self) -> dict[str, Any]:
        return {
            "price_usd_per_hour": self.usd_per_hour,
            "new_price_usd_per_hour": self.new_usd_per_hour,
            "download_usd": self.download_usd,
            "worst_case_usd": self.worst_case_usd,
            "credit_usd": self.money.credit_usd,
            "budget_usd": self.money.budget_usd,
            "spent_usd": self.money.spent_usd,
            "lease_ends_at": self.terms.lease_ends_at,
            "idle_s": self.terms.idle_s,
            "disk_gb": self.disk_gb,
        }

    def _kept_view(self, one: Kept) -> dict[str, Any]:
        return {
            "id": one.node.id,
            "action": "change" if one.node.id in {each.node.id for each in self.changed} else "keep",
            "gpu": one.rental.gpu,
            "instance_id": None if one.rental.instance_id is None else str(one.rental.instance_id),
            "price_usd_per_hour": bill.price(one.rental),
        }

    def _seat_views(self) -> list[dict[str, Any]]:
        return [
            {
                "id": seat.node_id,
                "action": "create",
                "gpu": priced.offer.gpu,
                "instance_id": None,
                "price_usd_per_hour": priced.offer.price_usd_per_hour,
            }
            for seat, priced in zip(self.seats, self.taken, strict=True)
        ]

    def _why(self) -> str:
        settings = f"these settings are others than it runs with: {', '.join(self.changes)}" if self.changes else ""
        lost = f"{', '.join(self.lost)} is gone from the market" if self.lost else ""
        return "; ".join(filter(None, (self.choice.why, lost, settings)))


def _offer_view(one: Priced) -> dict[str, Any]:
    """An offer as every provider shows one, and what this market knows of it."""
    offer = one.offer
    usual = Offer(str(offer.id), VAST, offer.gpu, offer.price_usd_per_hour).as_dict()
    return {
        **usual,
        "machine_id": offer.machine_id,
        "region": offer.region,
        "reliability": offer.reliability,
        "vram_mb": offer.vram_mb,
        "down_mbps": offer.down_mbps,
        "effective_usd_per_hour": round(one.effective_usd_per_hour, 6),
        "download_usd": round(one.download_usd, 6),
        "total_usd": round(one.total_usd, 6),
        "minutes_to_ready": round(one.minutes_to_ready, 1),
    }


def check_credit(plan: RentedPlan) -> None:
    """Raises NothingSuitable (`insufficient_credit`) when the credit does not last for an hour (or a shorter lease) and a dollar beside."""
    if not plan.seats or plan.money.credit_usd is None:
        return
    hours = 1.0 if plan.hours is None else min(1.0, plan.hours)
    need = plan.usd_per_hour * hours + plan.download_usd + FLOOR_USD
    if plan.money.credit_usd < need:
        raise NothingSuitable(
            f"the account's credit is ${plan.money.credit_usd:.2f}; the first hour and a dollar beside it take ${need:.2f}.",
            hint="Add credit at https://cloud.vast.ai/billing/, or rent less: llmhost offers",
            code="insufficient_credit",
        )


def check_budget(plan: RentedPlan) -> None:
    """Raises NothingSuitable (`budget_spent`) when a fleet has cost its budget already: the watch would end it at once."""
    limit, spent = plan.money.budget_usd, plan.money.spent_usd
    if limit is not None and spent >= limit and (plan.kept or plan.leaving):
        raise NothingSuitable(
            f"fleet {plan.fleet!r} has cost ${spent:.2f} since it began, which a budget of ${limit:.2f} does not cover.",
            hint=f"Name a larger one (llmhost up --budget {math.ceil(spent + 1)}), or end it: llmhost down",
            code="budget_spent",
        )


def check_dearer(agreed: RentedPlan, now: RentedPlan) -> None:
    """What was confirmed is the most that may be bought. Raises NothingSuitable (`price_rose`)."""
    if len(now.seats) > len(agreed.seats) or now.new_usd_per_hour > agreed.new_usd_per_hour * 1.001:
        raise NothingSuitable(
            f"meanwhile the fleet or the offers are others: it would cost ${now.new_usd_per_hour:.3f} more an hour, "
            f"and ${agreed.new_usd_per_hour:.3f} were agreed to.",
            hint="llmhost up",
            code="price_rose",
        )


def action_of(
    seats: Sequence[Seat],
    kept: Sequence[Kept],
    leaving: Sequence[str],
    others: tuple[str, ...],
    *,
    in_place: bool,
    moved: bool,
) -> Action:
    """What becomes of the whole fleet. `others` are settings that running servers do not have, `in_place` = nodes or links change, too."""
    if leaving:
        return "replace"
    if seats:
        return "extend" if kept else "create"
    if in_place:
        return "change"
    return "replace_gateway" if moved or others else "keep"
