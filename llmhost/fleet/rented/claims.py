"""Which machines on the market belong to which row of the ledger; each gets its row before anything is done with it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from llmhost.core.rentals import Rental, RentalState
from llmhost.fleet.rented.desk import RentDesk
from llmhost.fleet.rented.ownership import Label, known_by, label_of_row, ours, row_of_second
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
    seconds = [remember_second(rental, instance, desk) for instance in rest]
    since = rental.rented_at or rental.created_at
    kept = desk.move(rental, state, instance_id=first.id, rented_at=since, **priced(rental, first))
    return kept, seconds


def priced(rental: Rental, instance: Instance) -> dict[str, float]:
    """What it really costs an hour, where the market says so."""
    said = instance.price_usd_per_hour
    return {} if said is None or said <= 0 else {"price_usd_per_hour": said}


def remember_second(rental: Rental, instance: Instance, desk: RentDesk) -> Rental:
    """The row of one more machine that one order made: known, and to be ended, from now on."""
    second = replace(
        rental,
        label=row_of_second(label_of_row(rental.label), instance.id),
        state="destroying",
        instance_id=instance.id,
        rented_at=rental.created_at,
        why="a second machine for one order",
        **priced(rental, instance),  # type: ignore[arg-type]
    )
    return _added(second, desk)


def remember_orphan(instance: Instance, desk: RentDesk) -> Rental:
    """The row of a machine that is ours and that no open row knows: to be ended, from now on."""
    label = ours(instance, desk.installation)
    known = desk.ledger.rentals.get(label.text) if label else None
    orphan = _orphan(instance, label, desk)
    if known is None:
        return _added(orphan, desk)
    return _added(replace(orphan, label=_free_row(known.label, instance.id, desk), node_id=known.node_id), desk)


def _orphan(instance: Instance, label: Label | None, desk: RentDesk) -> Rental:
    disk_price = instance.disk_usd_per_gb_month
    terms = {
        "disk_gb": instance.disk_gb,
        "disk_usd_per_gb_month": disk_price,
        "gpu_usd_per_hour": instance.gpu_usd_per_hour,
        "down_usd_per_gb": instance.down_usd_per_gb,
        "up_usd_per_gb": instance.up_usd_per_gb,
        "image": instance.image,
    }
    return Rental(
        label=label.text if label else f"{NOBODY}/{instance.id}",
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


def _added(rental: Rental, desk: RentDesk) -> Rental:
    """A row that is there already, after a crash, holds."""
    kept = desk.ledger.rentals.get(rental.label)
    if kept is not None:
        return kept
    desk.ledger.rentals.add(rental)
    return rental


def _free_row(label: str, instance_id: int, desk: RentDesk) -> str:
    """A key that is free, or that of this machine's end which was begun already."""
    key = first = row_of_second(label_of_row(label), instance_id)
    times = 1
    while (row := desk.ledger.rentals.get(key)) is not None and not row.is_open:
        times += 1
        key = f"{first}.{times}"
    return key
