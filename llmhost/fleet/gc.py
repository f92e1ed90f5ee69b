"""`llmhost gc`: machines of this installation that bill and that no ledger entry owns. Others' are listed, and never touched."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import LlmhostError
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.result import Result
from llmhost.fleet.rented.ending import Ended, end_orphans
from llmhost.fleet.rented.enforce import Place
from llmhost.fleet.rented.lag import late_orphans
from llmhost.fleet.rented.reconcile import Reconciled, reconcile
from llmhost.fleet.rented.rescue import DAMAGED, Rescued, at_hand
from llmhost.fleet.turn import my_turn
from llmhost.providers.market import Instance, Market

if TYPE_CHECKING:
    from llmhost.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Found:
    """What the market and the ledger say, with the turn kept until the end of the block."""

    reconciled: Reconciled
    place: Place
    books: Rescued

    @property
    def orphans(self) -> list[dict[str, Any]]:
        return [_row(orphan.instance) for orphan in self.reconciled.orphans]

    @property
    def others(self) -> list[dict[str, Any]]:
        return [_row(instance) for instance in self.reconciled.others]

    def end(self, progress: Progress) -> Result:
        """Destroy the orphans, verified. `data` = `{orphans, others, destroyed, still_billing}`; exit code 6 when one may still bill."""
        instances = [orphan.instance for orphan in self.reconciled.orphans]
        if instances:
            progress.phase("destroy", f"ending {', '.join(str(one.id) for one in instances)}")
        ended = end_orphans(instances, self.place.desk(self.books.ledger))
        result = self.listed()
        result.data["destroyed"] = [_ended(one) for one in ended]
        result.data["still_billing"] = [_ended(one) for one in ended if not one.verified]
        errors = [one.error for one in ended if one.error is not None]
        if ended and self.books.trouble and self.books.trouble.code != DAMAGED:
            errors.append(_unwritten(self.books.trouble))
        result.errors += [error.as_dict() for error in errors]
        result.exit_code = max((error.exit_code for error in errors), default=0) or result.exit_code
        return result

    def listed(self) -> Result:
        """What was found, nothing being ended. A damaged ledger is an error beside, one that cannot be written a warning."""
        errors = [_unsettled(rental.node_id) for rental in self.reconciled.unsettled]
        data = {"orphans": self.orphans, "others": self.others, "destroyed": [], "still_billing": []}
        result = Result(data, warnings=errors)
        trouble = self.books.trouble
        if trouble is not None and trouble.code == DAMAGED:
            result.errors.append(trouble.as_dict())
            result.exit_code = trouble.exit_code
        elif trouble is not None:
            result.warnings.append(trouble.message)
        return result


@contextlib.contextmanager
def look_for_orphans(settings: Settings, paths: Paths, market: Market, progress: Progress) -> Iterator[Found]:
    """Ask the market, after waiting for an `up` or a `down` that is at work.

    Where the ledger cannot be used it is done with what can be read of it, and with our installation's id: what bills must be seen. Raises
    Unavailable or AuthenticationNeeded of the market, LlmhostError.
    """
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(LlmhostError):  # where nobody can take a turn, nobody is at work
            stack.enter_context(my_turn(paths, progress))
        books = stack.enter_context(at_hand(paths))
        progress.phase("reconcile", "asking the market what is rented")
        place = Place(market, settings, paths)
        desk = replace(place.desk(books.ledger), progress=progress)
        found = reconcile(desk)
        if not books.complete:
            found.orphans.extend(late_orphans(desk, (one.id for one in found.instances)))
        yield Found(found, place, books)


def _unwritten(trouble: LlmhostError) -> LlmhostError:
    message = f"{trouble.message} What was to end was ended all the same, but that could not be written down."
    return LlmhostError(message, hint=trouble.hint, code=trouble.code)


def _row(instance: Instance) -> dict[str, Any]:
    return {
        "instance_id": str(instance.id),
        "label": instance.label,
        "gpu": instance.gpu,
        "price_usd_per_hour": instance.price_usd_per_hour,
        "state": instance.actual,
    }


def _ended(ended: Ended) -> dict[str, Any]:
    rental = ended.rental
    number = None if rental.instance_id is None else str(rental.instance_id)
    return {"id": rental.node_id, "instance_id": number, "spent_usd": rental.spent_usd, "verified": ended.verified}


def _unsettled(node_id: str) -> str:
    return f"the market did not say what became of {node_id}; llmhost down ends it."
