"""When no offer does: which wish to give up, how many offers that would free, and what they cost then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby, islice
from typing import Any

from llmhost.core.rentals import MachineNote
from llmhost.fleet.rented.offer_filters import Reason, reasons
from llmhost.fleet.rented.ranking import Job, Priced, Rejected, price
from llmhost.providers.market import OfferWish

MOST = 5
# Of the combinations only so many are tried, those of the cheapest offers.
MOST_TRIED = 40


@dataclass(frozen=True, slots=True)
class Relaxation:
    """With these `options`, `frees` machines would do; `nearest` is the best of them."""

    options: tuple[str, ...]
    frees: int
    nearest: Priced

    @property
    def text(self) -> str:
        """`3 more with --min-reliability 0.95, from $0.31/h`."""
        return f"{self.frees} more with {' '.join(self.options)}, from ${self.nearest.effective_usd_per_hour:.2f}/h"

    def as_dict(self) -> dict[str, Any]:
        return {
            "options": list(self.options),
            "frees": self.frees,
            "from_usd_per_hour": round(self.nearest.effective_usd_per_hour, 6),
            "nearest": self.nearest.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class _Search:
    rejected: list[Rejected]
    wish: OfferWish
    job: Job
    machines: Mapping[int, MachineNote]
    now: datetime

    def tried(self, changes: Iterable[Reason]) -> Relaxation | None:
        """What would do under these changes, None = nothing."""
        given = tuple(changes)
        wish = replace(self.wish, **{change[0]: change[1] for reason in given if (change := reason.change)})
        job = replace(self.job, hours=min(wish.hours, self.job.hours))
        freed = [price(each.offer, wish, job, self.machines.get(each.offer.machine_id)) for each in self._doing(wish)]
        if not freed:
            return None
        nearest = min(freed, key=lambda each: (each.score, each.offer.id))
        options = tuple(reason.option for reason in given if reason.option)
        return Relaxation(options, len({each.offer.machine_id for each in freed}), nearest)

    def _doing(self, wish: OfferWish) -> Iterator[Rejected]:
        for each in self.rejected:
            if not reasons(each.offer, wish, self.machines, self.now, self.job.model_gb):
                yield each


def relaxations(
    rejected: Iterable[Rejected], wish: OfferWish, job: Job, machines: Mapping[int, MachineNote], now: datetime
) -> list[Relaxation]:
    """The single wishes to relax, each no further than it takes to free an offer; where no single one is enough, several together.

    Sorted by how many machines that frees, then by their price.
    """
    near = [each for each in rejected if all(reason.change for reason in each.reasons)]
    search = _Search(near, wish, job, machines, now)
    found = list(_singles(near, search)) or list(_together(near, search))
    return sorted(found, key=lambda each: (-each.frees, each.nearest.score, each.options))[:MOST]


def _singles(near: list[Rejected], search: _Search) -> Iterator[Relaxation]:
    """For each kind of wish the change that frees the fewest, which is the smallest."""
    alone = {reason for each in near if len(each.reasons) == 1 for reason in each.reasons}
    changes = {(reason.code, reason.option): reason for reason in sorted(alone, key=_key)}
    for _, same in groupby(changes.values(), key=lambda reason: reason.code):
        found = [relaxed for reason in same if (relaxed := search.tried((reason,)))]
        if found:
            yield min(found, key=lambda each: (each.frees, each.nearest.score))


def _together(near: list[Rejected], search: _Search) -> Iterator[Relaxation]:
    """For each kind of combination, among those of the offers that miss the fewest wishes, the one with the best offer."""
    fewest = min((len(each.reasons) for each in near), default=0)
    asked = {_options(each): each.reasons for each in near if len(each.reasons) == fewest}
    best: dict[tuple[str, ...], Relaxation] = {}
    for given in islice(asked.values(), MOST_TRIED):
        found, kind = search.tried(given), tuple(reason.code for reason in given)
        if found and (kind not in best or _better(found, best[kind])):
            best[kind] = found
    yield from best.values()


def _better(one: Relaxation, other: Relaxation) -> bool:
    return (one.nearest.score, one.frees) < (other.nearest.score, other.frees)


def _options(rejected: Rejected) -> tuple[str | None, ...]:
    return tuple(reason.option for reason in rejected.reasons)


def _key(reason: Reason) -> tuple[str, str]:
    return reason.code, reason.option or ""
