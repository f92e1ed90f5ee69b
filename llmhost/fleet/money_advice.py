"""What a user may want to do about what is rented, the most urgent first. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from llmhost.core.rentals import Rental
from llmhost.fleet.desired import WATCH, serving
from llmhost.fleet.observed import Observed
from llmhost.fleet.rented import bill, budget
from llmhost.fleet.rented.alerts import Alert
from llmhost.fleet.rented.inventory_view import at_rest, paired
from llmhost.fleet.rented.memory import Memory
from llmhost.fleet.rented.reconcile import VANISHED
from llmhost.fleet.rented.vanished import ALL as GONE_BY_ITSELF
from llmhost.fleet.rented.warnings import Look, other_alerts

GC = "llmhost gc"
DOWN = "llmhost down"
EXTEND = "llmhost extend 2h"
COST = "llmhost cost"
UP = "llmhost up"
TUNNEL = "llmhost tunnel"
REFRESH = "llmhost status --refresh"
# What the watch's alerts of a kind are answered with; all but the credit's go by the fleet.
_REMEDIES = {"lease": EXTEND, "idle": "llmhost claude", "host_ends": UP, "credit": COST}
# For so long `status` says why a machine is no longer there.
TOLD_FOR = timedelta(hours=24)
_ENDED_BY_WATCH = ("the lease ended", "the budget of", "nobody has used it", "its up was interrupted")


def money_advice(fleet: str, data: dict[str, Any], seen: Observed) -> list[dict[str, str]]:
    """`[{code, text, command}]` about this fleet, and about what bills in none."""
    books = seen.books
    found = [*_orphans(data["fleet"]["orphans"]), *_unsettled(seen), *_unwatched(seen)]
    found += [*_budget(books.standing(fleet)), *_soon(fleet, seen), *_dearer(books.standing(fleet).open)]
    found += [*_at_rest(fleet, seen), *_gone(fleet, seen), *_silent_market(seen)]
    return found


def _entry(code: str, text: str, command: str) -> dict[str, str]:
    return {"code": code, "text": text, "command": command}


def _orphans(orphans: list[dict[str, Any]]) -> Iterator[dict[str, str]]:
    ours = [one for one in orphans if one["ours"]]
    if ours:
        what = f"{len(ours)} machine{'s' if len(ours) > 1 else ''} of this installation, in no fleet,"
        usd = sum(one["price_usd_per_hour"] or 0.0 for one in ours)
        yield _entry("orphans", f"{what} bill{'' if len(ours) > 1 else 's'} ${usd:.2f}/h.", GC)


def _unsettled(seen: Observed) -> Iterator[dict[str, str]]:
    if seen.at_work:
        return
    for rental in seen.books.open:
        if rental.state in ("intent", "unknown"):
            text = f"Nobody knows whether a machine was rented for {rental.node_id}; it may bill ${bill.price(rental):.2f}/h."
            yield _entry("rent_unsettled", text, _down(rental, seen))
        elif rental.state == "destroying":
            text = f"The end of {rental.node_id} (instance {rental.instance_id}) is not verified; it may still bill."
            yield _entry("still_billing", text, _down(rental, seen))


def _unwatched(seen: Observed) -> Iterator[dict[str, str]]:
    watch = seen.children.get(WATCH)
    if not seen.books.open or seen.supervisor == "silent" or seen.at_work or (watch and watch["state"] == "up"):
        return
    why = f" ({watch['reason']})" if watch and watch.get("reason") else ""
    text = f"Nobody watches lease, budget and idle time of what is rented{why}; only the machines' own guards do."
    # without a node that serves there is no tunnel to open
    yield _entry("no_watch", text, TUNNEL if serving(seen.nodes) else f"{DOWN} --all")


def _budget(standing: budget.Standing) -> Iterator[dict[str, str]]:
    steps = budget.reached(standing)
    if steps:
        text = f"${standing.spent_usd:.2f} of the budget of ${standing.budget_usd:.2f} is spent ({standing.percent:.0f} %)."
        yield _entry("budget", text, COST)


def _soon(fleet: str, seen: Observed) -> Iterator[dict[str, str]]:
    """The same that the watch tells, from the same rules; it is told here for as long as it holds."""
    books = seen.books
    standings = [books.standing(name) for name in sorted({rental.fleet for rental in books.open})]
    dry_at = budget.runs_dry_at(standings, books.inventory.credit_usd, books.now)
    since = books.idle_since.get(fleet)
    look = Look(books.standing(fleet), books.now, bill.moment(since) if since else None, dry_at)
    if look.standing.open:
        yield from (_told(alert) for alert in other_alerts(look, books.inventory, Memory()))


def _told(alert: Alert) -> dict[str, str]:
    return _entry(alert.kind, alert.text, _REMEDIES.get(alert.kind, COST))


def _dearer(rentals: list[Rental]) -> Iterator[dict[str, str]]:
    for rental in rentals:
        now = bill.price(rental)
        if now > rental.price_usd_per_hour:
            text = f"{rental.node_id} costs ${now:.3f}/h now; ${rental.price_usd_per_hour:.3f}/h was agreed."
            yield _entry("price", text, f"{DOWN} {rental.node_id}")


def _at_rest(fleet: str, seen: Observed) -> Iterator[dict[str, str]]:
    """Machines that served, and do not run now: no link can bring them back, and their disks bill."""
    for rental, instance in paired(seen.books.inventory, seen.books.standing(fleet).open):
        state = at_rest(instance)
        if state is not None and rental.state == "ready":
            text = f"The market says that the machine of {rental.node_id} is {state}. It may come back; for another one, end it first."
            yield _entry("machine_at_rest", text, f"{DOWN} {rental.node_id}")


def _gone(fleet: str, seen: Observed) -> Iterator[dict[str, str]]:
    """Why there is nothing where there was something, without anybody having said `down`."""
    books = seen.books
    if books.standing(fleet).open:
        return
    for rental in books.rentals:
        why = rental.why or ""
        ours = rental.fleet == fleet and rental.state == "gone" and _is_recent(rental, books.now)
        if ours and (why in (*GONE_BY_ITSELF, VANISHED) or why.startswith(_ENDED_BY_WATCH)):
            at = f" at {rental.ended_at}" if rental.ended_at else ""
            text = f"{rental.node_id} is gone{at}: {why}. It cost ${bill.spent(rental, books.now):.2f}."
            yield _entry("node_gone", text, UP)


def _is_recent(rental: Rental, now: datetime) -> bool:
    return rental.ended_at is not None and now - bill.moment(rental.ended_at) < TOLD_FOR


def _silent_market(seen: Observed) -> Iterator[dict[str, str]]:
    trouble = seen.books.inventory.trouble
    if trouble and seen.books.open:
        yield _entry("market_silent", f"The market was asked in vain: {trouble.rstrip('.')}.", REFRESH)


def _down(rental: Rental, seen: Observed) -> str:
    others = {one.fleet for one in seen.books.open} != {rental.fleet}
    return f"{DOWN} --all" if others else DOWN
