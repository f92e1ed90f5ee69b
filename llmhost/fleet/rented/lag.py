"""What turns up late in the market's list, for who has no ledger that knows every attempt to rent."""

from __future__ import annotations

from collections.abc import Iterable

from llmhost.core.errors import AuthenticationNeeded, LlmhostError
from llmhost.fleet.rented.desk import RentDesk, once_each
from llmhost.fleet.rented.ownership import ours
from llmhost.fleet.rented.reconcile import Orphan
from llmhost.providers.market import Instance


def late_orphans(desk: RentDesk, known: Iterable[int]) -> list[Orphan]:
    """Machines of this installation, besides the instances of these ids, that the list has within the time it may lag behind.

    It takes `settle_answers` lists in a row with nothing new, the last asked for `settle_s` after the first look. Raises Unavailable or
    AuthenticationNeeded when the market does not answer any more, and Interrupted.
    """
    seconds = desk.timing.settle_s
    desk.progress.phase("settle", f"no ledger knows what was rented: asking the market again, for {seconds:.0f} s")
    found: dict[int, Orphan] = {}
    seen = set(known)
    started = heard_at = desk.clock.monotonic()
    clean = 0
    while True:
        asked_at = desk.clock.monotonic()
        instances = _asked(desk, heard_at)
        if instances is not None:
            heard_at = desk.clock.monotonic()
            fresh = _new(instances, seen, desk.installation)
            found |= {orphan.instance.id: orphan for orphan in fresh}
            seen |= set(found)
            clean = 0 if fresh else clean + 1
        if clean >= desk.timing.settle_answers and asked_at >= started + seconds:
            return list(found.values())
        desk.pause(desk.timing.settle_every_s)


def _asked(desk: RentDesk, heard_at: float) -> list[Instance] | None:
    """None = no answer, and there is still time for one."""
    try:
        return once_each(desk.market.instances())
    except AuthenticationNeeded:
        raise
    except LlmhostError:
        if desk.clock.monotonic() >= heard_at + desk.timing.settle_patience_s:
            raise
        return None


def _new(instances: list[Instance], seen: set[int], installation: str) -> list[Orphan]:
    rows = [(each, ours(each, installation)) for each in instances if each.id not in seen]
    return [Orphan(each, label) for each, label in rows if label is not None]
