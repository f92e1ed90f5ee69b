"""`llmhost extend`: the end of a fleet's lease moved, here and on every machine, whose own guard would end it else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from llmhost.core import durations
from llmhost.core.errors import LlmhostError, NotReady, Unavailable, UsageError
from llmhost.core.guard_files import AFTER_LEASE_S, ENDS, GUARD
from llmhost.core.ledger import Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.rentals import Rental, Terms
from llmhost.core.result import Result
from llmhost.fleet.desired import VAST
from llmhost.fleet.rented.books import RENTAL
from llmhost.fleet.together import at_once
from llmhost.fleet.visit import Visits

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

COMMAND_S = 20.0


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one machine's own end. `error` None = it is the new one."""

    node_id: str
    error: LlmhostError | None = None


def extend(settings: Settings, paths: Paths, length: str, progress: Progress) -> Result:
    """Let the fleet's lease end so long from now (`4h`, or `none`), whenever it would have ended before.

    `data` = `{fleet, lease_ends_at, before, nodes: [{id, moved, reason}]}`. A machine that cannot be told keeps its own end, at which it
    destroys itself: that is an error (5) that names it. Raises UsageError (`bad_duration`), NotReady (`nothing_rented`), LlmhostError.
    """
    seconds = durations.seconds(length)
    if seconds == 0:
        raise UsageError(
            "a lease of no time would end the fleet now.", hint="To end it: llmhost down", code="bad_duration"
        )
    ends = None if seconds is None else datetime.now(UTC) + timedelta(seconds=seconds)
    before, nodes, bare = _move_ledger(settings.fleet, paths, ends)
    progress.phase("extend", "telling the machines")
    moved = _tell(nodes, settings, paths, ends)
    moved += [Moved(rental.node_id, _not_there_yet(rental)) for rental in bare]
    return _result(settings.fleet, before, ends, moved, f"llmhost extend {length}")


def guard_command(ends: datetime | None) -> str:
    """For the shell of a rented machine: its own end follows this end of the lease, or there is none. It is never half written."""
    if ends is None:
        return f"rm -f {ENDS}"
    # the guard reads whole seconds
    return f"mkdir -p {GUARD} && echo {int(ends.timestamp()) + AFTER_LEASE_S} >{ENDS}.new && mv {ENDS}.new {ENDS}"


def _move_ledger(fleet: str, paths: Paths, ends: datetime | None) -> tuple[str | None, list[NodeRecord], list[Rental]]:
    """The end before; the nodes on rented machines, and the rentals without a node."""
    ledger = Ledger.open_existing(paths.ledger_file)
    if ledger is None:
        raise _nothing(fleet)
    with ledger, ledger.transaction():
        rentals = [one for one in ledger.rentals.all(fleet, open_only=True) if one.state != "destroying"]
        if not rentals:
            raise _nothing(fleet)
        terms = ledger.rentals.terms(fleet) or Terms(fleet, since=rentals[0].created_at)
        after = ends.isoformat(timespec="seconds") if ends else None
        ledger.rentals.put_terms(replace(terms, lease_ends_at=after))
        labels = {rental.label for rental in rentals}
        nodes = [one for one in ledger.nodes(fleet) if one.provider == VAST and one.spec.get(RENTAL) in labels]
    known = {node.spec.get(RENTAL) for node in nodes}
    return terms.lease_ends_at, nodes, [rental for rental in rentals if rental.label not in known]


def _tell(nodes: list[NodeRecord], settings: Settings, paths: Paths, ends: datetime | None) -> list[Moved]:
    command = guard_command(ends)
    with Visits(settings, paths) as visits:
        results = at_once(nodes, lambda node: visits.to(node).check(command, timeout_s=COMMAND_S), visits.close)
    return [
        Moved(node.id, result if isinstance(result, LlmhostError) else None)
        for node, result in zip(nodes, results, strict=True)
    ]


def _result(fleet: str, before: str | None, ends: datetime | None, moved: list[Moved], again: str) -> Result:
    data: dict[str, Any] = {
        "fleet": fleet,
        "lease_ends_at": ends.isoformat(timespec="seconds") if ends else None,
        "before": before,
        "nodes": [
            {"id": one.node_id, "moved": one.error is None, "reason": one.error.message if one.error else None}
            for one in moved
        ],
    }
    errors = [_kept(one, before, again) for one in moved if one.error is not None]
    code = errors[0].exit_code if errors else 0
    return Result(data, errors=[error.as_dict() for error in errors], exit_code=code)


def _kept(moved: Moved, before: str | None, again: str) -> LlmhostError:
    why = moved.error.message.rstrip(".") if moved.error else ""
    own = f"at {before}" if before else "as it was"
    return Unavailable(
        f"{moved.node_id} could not be told: {why}. Its own guard still ends it {own}; the lease is moved for all else.",
        hint=f"Again, when it can be reached: {again}",
        code="guard_not_moved",
    )


def _not_there_yet(rental: Rental) -> LlmhostError:
    return NotReady(f"it is {rental.phase or 'being rented'} and takes no commands yet")


def _nothing(fleet: str) -> NotReady:
    return NotReady(f"fleet {fleet!r} has nothing rented, so no lease.", hint="llmhost up", code="nothing_rented")
