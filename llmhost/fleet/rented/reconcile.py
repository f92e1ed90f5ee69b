"""What the market has against what the ledger knows, before anything is rented or ended, and every minute."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from llmhost.core.errors import LlmhostError
from llmhost.core.rentals import Rental
from llmhost.fleet.rented.bill import spent
from llmhost.fleet.rented.desk import RentDesk, once_each
from llmhost.fleet.rented.ending import end
from llmhost.fleet.rented.farewell import ANSWERS
from llmhost.fleet.rented.ownership import Label, known_by, label_of_row, ours, parse
from llmhost.fleet.rented.payer import differs, not_ours_to_see, terms_of
from llmhost.fleet.rented.settle import settle_all
from llmhost.providers.market import Instance

VANISHED = "it vanished from the market"
Place = Literal["known", "orphan", "other"]


@dataclass(frozen=True, slots=True)
class Orphan:
    """A machine of this installation that no open row of the ledger knows."""

    instance: Instance
    label: Label


@dataclass(frozen=True, slots=True)
class Reconciled:
    """`instances` is everything of the account; `others` what no llmhost of this installation rented: never to be touched.

    `vanished` served or booted and is gone now; `unfinished` was rented and never served, and nobody is at work on it; `unsettled` may
    bill, and the market did not say (still unknown, or its end not verified).
    """

    instances: list[Instance]
    orphans: list[Orphan] = field(default_factory=list)
    others: list[Instance] = field(default_factory=list)
    vanished: list[Rental] = field(default_factory=list)
    unfinished: list[Rental] = field(default_factory=list)
    unsettled: list[Rental] = field(default_factory=list)


def reconcile(desk: RentDesk, *, at_work: bool = False, patience_s: float | None = None) -> Reconciled:
    """Bring the ledger up to what the market says. `at_work` = an `up` or a `down` goes on elsewhere, whose attempts are left to it.

    `patience_s` bounds what settling and verifying wait for; what is not known by then is `unsettled`.

    The list is put into the ledger as its inventory. Raises Unavailable or AuthenticationNeeded when there is none, the inventory having
    got the `trouble`; what the ledger raises; Interrupted.
    """
    desk = desk if patience_s is None else replace(desk, timing=replace(desk.timing, patience_s=patience_s))
    over = {rental.label for rental in desk.ledger.rentals.all() if not rental.is_open}
    instances = _fetched(desk)
    if _resolve(desk, at_work=at_work):
        instances = desk.listed() or instances
    _pays_from_now_on(desk, instances)
    vanished = _vanished(desk, instances)
    rows = desk.ledger.rentals.all()
    _complain_of_the_key(desk, rows, instances)
    sorter = _Sorter(desk.installation, rows, over, at_work)
    sorted_out = [(each, *sorter.place(each)) for each in instances]
    return Reconciled(
        instances=instances,
        orphans=[Orphan(each, label) for each, place, label in sorted_out if place == "orphan" and label],
        others=[each for each, place, _ in sorted_out if place == "other"],
        vanished=vanished,
        unfinished=[] if at_work else [row for row in rows if row.state == "rented"],
        unsettled=[row for row in rows if row.state in ("intent", "unknown", "destroying")],
    )


def _fetched(desk: RentDesk) -> list[Instance]:
    known = desk.ledger.rentals.inventory()
    try:
        instances = once_each(desk.market.instances())
    except LlmhostError as error:
        desk.ledger.rentals.put_inventory(replace(known, trouble=error.message))
        raise
    rows = tuple(instance.as_dict() for instance in instances)
    desk.ledger.rentals.put_inventory(replace(known, fetched_at=desk.stamp(), instances=rows, trouble=None))
    return instances


def _resolve(desk: RentDesk, *, at_work: bool) -> bool:
    """Find out about what is not settled, and go on with ends that were begun. Whether there was anything."""
    rows = desk.ledger.rentals.all(open_only=True)
    young = desk.timing.fresh_s if at_work else 0.0
    asked = [row for row in rows if row.state in ("intent", "unknown") and desk.age_s(row.created_at) >= young]
    ending = [row for row in rows if row.state == "destroying" and not at_work]
    if asked:
        settle_all(asked, desk)
    if ending:
        end(ending, desk, "its end was begun")
    return bool(asked or ending)


def _vanished(desk: RentDesk, instances: list[Instance]) -> list[Rental]:
    """Gone without our doing: in none of several clean lists, and old enough to have been in the first one."""
    rows = desk.ledger.rentals.all(open_only=True)
    lost = [row for row in rows if row.state in ("rented", "ready") and _is_lost(row, instances, desk)]
    if not lost:
        return []
    for _ in range(max(ANSWERS, desk.timing.settle_answers) - 1):
        desk.pause(desk.timing.verify_every_s)
        again = desk.listed()
        lost = [] if again is None else [row for row in lost if _is_lost(row, again, desk)]
        if not lost:
            return []
    return [_gone(row, desk) for row in lost]


def _pays_from_now_on(desk: RentDesk, instances: list[Instance]) -> None:
    """A key that lists a machine is good for it, though the market says another name with it (a colleague's key, say)."""
    listed = {instance.id for instance in instances}
    for row in desk.ledger.rentals.all(open_only=True):
        if row.instance_id in listed and differs(row, desk.market.account_id):
            desk.move(row, row.state, terms={**row.terms, **terms_of(desk.market)})


def _complain_of_the_key(desk: RentDesk, rows: list[Rental], instances: list[Instance]) -> None:
    """What another account pays for goes on billing as far as anybody knows: `status` says why."""
    listed = {instance.id for instance in instances}
    unseen = next(
        (row for row in rows if row.is_open and row.instance_id not in listed and desk.is_anothers(row)), None
    )
    if unseen is not None:
        known = desk.ledger.rentals.inventory()
        desk.ledger.rentals.put_inventory(replace(known, trouble=not_ours_to_see(unseen).message))


def _is_lost(row: Rental, instances: list[Instance], desk: RentDesk) -> bool:
    if desk.apart_s(row.rented_at or row.created_at) <= desk.timing.settle_s:
        return False
    return all(row.instance_id != instance.id for instance in instances) and not desk.is_anothers(row)


def _gone(row: Rental, desk: RentDesk) -> Rental:
    cost = spent(row, desk.now())
    return desk.move(row, "gone", ended_at=desk.stamp(), spent_usd=cost, why=VANISHED)


@dataclass(frozen=True, slots=True)
class _Sorter:
    """Tells ours from others', and what is known from orphans. `over` are the rows that were closed before the market was asked: what one
    of them rented should not be there."""

    installation: str
    rows: list[Rental]
    over: set[str]
    at_work: bool

    def place(self, instance: Instance) -> tuple[Place, Label | None]:
        own = [row for row in self.rows if row.instance_id == instance.id]
        label = ours(instance, self.installation) or next((parse(label_of_row(row.label)) for row in own), None)
        if label is None:
            return "other", None
        known = any(row.label not in self.over for row in own) or any(self._claims(row, instance) for row in self.rows)
        return ("known" if known else "orphan"), label

    def _claims(self, row: Rental, instance: Instance) -> bool:
        """An attempt whose machine is not settled yet may be this one; so may another process's, whatever it has found."""
        return (
            row.label not in self.over and known_by(instance, row.label) and (row.instance_id is None or self.at_work)
        )
