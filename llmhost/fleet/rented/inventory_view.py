"""What the market's last list means beside the ledger: who bills without a fleet, whose price rose, who ends soon. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from llmhost.core.rentals import Inventory, Rental
from llmhost.fleet.rented.bill import moment, price
from llmhost.fleet.rented.ownership import known_by, label_of_row, ours
from llmhost.providers.market import Instance

# Prices are told with four digits; what differs by less is rounding, or a disk's price reckoned another way.
RAISED_BY = 1.005


@dataclass(frozen=True, slots=True)
class Risen:
    """A machine that costs more than was agreed, or since the last rise. USD an hour."""

    rental: Rental
    before: float
    now: float


def instances(inventory: Inventory) -> list[Instance]:
    return [Instance.from_dict(one) for one in inventory.instances]


def age_s(inventory: Inventory, now: datetime) -> float | None:
    """How old the list is; None = there never was one."""
    if inventory.fetched_at is None:
        return None
    return max(0.0, round((now - moment(inventory.fetched_at)).total_seconds(), 1))


def orphans(inventory: Inventory, rentals: Iterable[Rental], installation: str | None) -> list[dict[str, Any]]:
    """The contract's `orphans`: machines of the account that no open rental of the ledger is, ours first.

    `installation` None = we have no id yet, so that nothing can be ours.
    """
    known = [rental for rental in rentals if rental.is_open or _ended_since(rental, inventory)]
    strays = [one for one in instances(inventory) if not any(_is(one, rental) for rental in known)]
    found = [_orphan(one, is_ours=bool(installation) and ours(one, str(installation)) is not None) for one in strays]
    return sorted(found, key=lambda one: not one["ours"])


def risen(inventory: Inventory, rentals: Iterable[Rental]) -> Iterator[Risen]:
    """Those whose price in the list is above the one we reckon with."""
    for rental, instance in paired(inventory, rentals):
        now = instance.price_usd_per_hour
        if now is not None and now > price(rental) * RAISED_BY:
            yield Risen(rental, price(rental), now)


def paired(inventory: Inventory, rentals: Iterable[Rental]) -> Iterator[tuple[Rental, Instance]]:
    """Each open rental that the list has, with its row."""
    rows = {one.id: one for one in instances(inventory)}
    for rental in rentals:
        if rental.is_open and rental.instance_id in rows:
            yield rental, rows[rental.instance_id]


def at_rest(instance: Instance) -> str | None:
    """What the market says of a machine that should be running and is not (vast facts §2.1); None = it runs, or nothing is said."""
    if "stopped" in (instance.current, instance.intended, instance.next):
        return "stopped by the market or its host"
    return None if instance.actual in (None, "running") else str(instance.actual)


def ends_at(instance: Instance) -> datetime | None:
    """When its host takes it back."""
    return None if instance.ends_at is None else datetime.fromtimestamp(instance.ends_at, UTC)


def _is(instance: Instance, rental: Rental) -> bool:
    """By its number where the ledger has one: a second machine with its label is one that nobody knows."""
    if rental.instance_id is not None:
        return instance.id == rental.instance_id
    return known_by(instance, label_of_row(rental.label))


def _ended_since(rental: Rental, inventory: Inventory) -> bool:
    """Whether its end was verified after the list was made, which still has it."""
    if rental.state != "gone" or rental.ended_at is None or inventory.fetched_at is None:
        return False
    return moment(rental.ended_at) >= moment(inventory.fetched_at)


def _orphan(instance: Instance, *, is_ours: bool) -> dict[str, Any]:
    since = None if instance.started_at is None else datetime.fromtimestamp(instance.started_at, UTC)
    return {
        "instance_id": str(instance.id),
        "label": instance.label,
        "price_usd_per_hour": instance.price_usd_per_hour,
        "since": since.isoformat(timespec="seconds") if since else None,
        "ours": is_ours,
        "gpu": instance.gpu,
    }
