"""Which machines on the market belong to which row of the ledger; each gets its row before anything is done with it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

from llmhost.core.errors import LlmhostError
from llmhost.core.rentals import Rental, RentalState
from llmhost.fleet.rented.desk import RentDesk
from llmhost.fleet.rented.ownership import known_by, label_of_row, ours, parse, row_of_second
from llmhost.providers.market import Instance

# A node that only the market knows of has no id of ours.
NOBODY = "orphan"


def hits(rental: Rental, instances: Iterable[Instance], rows: Sequence[Rental]) -> list[Instance]:
    """What this attempt rented, lowest id first, without the machines that have a row of their own."""
    taken = {row.instance_id for row in rows if row.label != rental.label and row.instance_id is not None}
    label = label_of_row(rental.label)
    found = (each for each in instances if known_by(each, label) and each.id not in taken)
    return sorted(found, key=lambda instance: instance.id)


def adopt(
    rental: Rental, found: Sequence[Instance], desk: RentDesk, state: RentalState = "rented"
) -> tuple[Rental, list[Rental]]:
    """The lowest id is what the attempt rented; the others get rows of their own, which are to be ended. Raises what the ledger raises.

    It is billed since the attempt, as nobody knows better.
    """
    first, *rest = found
    known = desk.ledger.rentals.get(rental.label)
    mine = known.instance_id if known is not None else None
    seconds = [remember_second(rental, instance, desk) for instance in rest if instance.id != mine]
    kept = _adopted(rental, first, desk, state)
    if not kept.is_open or kept.instance_id != first.id:
        # Somebody else closed the row meanwhile, or put another machine on it; this one must not be without one.
        seconds.append(remember_second(rental, first, desk))
    return kept, seconds


def _adopted(rental: Rental, instance: Instance, desk: RentDesk, state: RentalState) -> Rental:
    """The row with this machine; as it is, when it has another one by now."""
    since = rental.rented_at or rental.created_at
    with desk.ledger.transaction():
        now = desk.ledger.rentals.get(rental.label)
        if now is not None and now.instance_id not in (None, instance.id):
            return now
        return desk.move(rental, state, instance_id=instance.id, rented_at=since, **priced(rental, instance))


def priced(rental: Rental, instance: Instance) -> dict[str, float]:
    """What it really costs an hour, where the market says so."""
    said = instance.price_usd_per_hour
    return {} if said is None or said <= 0 else {"price_usd_per_hour": said}


def remember_second(rental: Rental, instance: Instance, desk: RentDesk) -> Rental:
    """The row of one more machine that one order made: known, and to be ended, from now on."""
    second = second_of(rental, instance)
    kept = desk.ledger.rentals.get(second.label)  # there already, after a crash
    if kept is not None:
        return kept
    try:
        desk.ledger.rentals.add(second)
    except LlmhostError:
        kept = desk.ledger.rentals.get(second.label)
        if kept is None:
            raise
        return kept  # somebody else was faster
    return second


def second_of(rental: Rental, instance: Instance) -> Rental:
    """The same, not written down."""
    return replace(
        rental,
        label=row_of_second(label_of_row(rental.label), instance.id),
        state="destroying",
        instance_id=instance.id,
        rented_at=rental.created_at,
        why="a second machine for one order",
        **priced(rental, instance),  # type: ignore[arg-type]
    )


def remember_orphan(instance: Instance, desk: RentDesk) -> Rental:
    """The row of a machine that is ours and that no open row knows: to be ended, from now on."""
    rows = desk.ledger.rentals.all()
    own = [row for row in rows if row.instance_id == instance.id]
    mending = next((row for row in own if row.is_open), None)
    if mending is not None:
        return mending
    label = ours(instance, desk.installation)
    key = label.text if label else next((label_of_row(row.label) for row in own), f"{NOBODY}/{instance.id}")
    first = next((row for row in rows if row.label == key), None)
    orphan = _orphan(instance, key, desk)
    if first is not None:
        orphan = replace(orphan, label=_free_row(key, instance.id, rows), node_id=first.node_id, fleet=first.fleet)
    desk.ledger.rentals.add(orphan)
    return orphan


def _orphan(instance: Instance, key: str, desk: RentDesk) -> Rental:
    label = parse(key)
    terms = {
        "disk_gb": instance.disk_gb,
        "disk_usd_per_gb_month": instance.disk_usd_per_gb_month,
        "gpu_usd_per_hour": instance.gpu_usd_per_hour,
        "down_usd_per_gb": instance.down_usd_per_gb,
        "up_usd_per_gb": instance.up_usd_per_gb,
        "image": instance.image,
    }
    return Rental(
        label=key,
        fleet=label.fleet if label else NOBODY,
        node_id=NOBODY,
        state="destroying",
        created_at=desk.stamp(),
        offer_id=0,
        machine_id=instance.machine_id or 0,
        host_id=instance.host_id or 0,
        gpu=instance.gpu or "",
        price_usd_per_hour=instance.price_usd_per_hour or 0.0,
        terms={name: value for name, value in terms.items() if value is not None},
        provider=desk.market.name,
        instance_id=instance.id,
        rented_at=_since(instance, desk),
        why="an orphan",
    )


def _since(instance: Instance, desk: RentDesk) -> str:
    """When it began to bill, by the market's clock, never in our future."""
    now = desk.now()
    if instance.started_at is None:
        return desk.stamp()
    began = now.fromtimestamp(instance.started_at, now.tzinfo)
    return min(began, now).isoformat(timespec="milliseconds")


def _free_row(label: str, instance_id: int, rows: Sequence[Rental]) -> str:
    """A key nobody has: one machine may be an orphan more than once."""
    taken = {row.label for row in rows}
    first = row_of_second(label, instance_id)
    return next(
        key for times in itertools.count(1) if (key := first if times == 1 else f"{first}.{times}") not in taken
    )
