"""`up --provider vast` until it is confirmed, and the last look before money is spent."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.result import Result
from llmhost.fleet.plan import UpRequest
from llmhost.fleet.rented.look import make_rented_plan, plan_of
from llmhost.fleet.rented.plan import RentedPlan, check_dearer
from llmhost.fleet.rented.seen import Seen, glance, look
from llmhost.fleet.rented.up import up_rented
from llmhost.fleet.turn import my_turn
from llmhost.providers.market import Market

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# Offers that were looked for longer ago may be gone, or dearer.
FRESH_S = 60.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan that was made without the turn, so that a prompt left open blocks nobody."""

    plan: RentedPlan
    request: UpRequest
    settings: Settings
    paths: Paths
    market: Market
    seen: Seen

    def carry_out(self, progress: Progress) -> Result:
        """Do it, or what is left to do of it by now.

        `data` as that of every `up`. Raises NothingSuitable (`price_rose`) when the fleet or the offers changed meanwhile and it would
        cost more than was shown, NotRented, BootFailed, NotReady, StillBilling (exit 6) when something this call rented may still bill,
        Interrupted, LlmhostError. Everything else that was rented here is ended by then, verified.
        """
        with my_turn(self.paths, progress):
            plan = self._still_right(progress)
            return up_rented(plan, self.settings, self.paths, self.market, progress)

    def _still_right(self, progress: Progress) -> RentedPlan:
        """The plan, or the same wish thought over when ledger or offers may be others by now."""
        plan = self.plan
        changed = self.seen.at_work or glance(plan.fleet, self.paths).mark != self.seen.mark
        stale = bool(plan.seats) and time.time() - plan.made_at > FRESH_S
        if not changed and not stale:
            return plan
        seen = look(plan.fleet, self.settings, self.paths, self.market, progress, at_work=False)
        again = plan_of(seen, self.request, self.settings, self.paths, self.market, progress)
        check_dearer(plan, again)
        return again


def prepare(request: UpRequest, settings: Settings, paths: Paths, progress: Progress, *, dry: bool = False) -> Prepared:
    """Look at ledger and market, and plan. Raises AuthenticationNeeded (`no_key`) at once, and as `make_rented_plan` does."""
    from llmhost.providers.vast.market import open_market

    market = open_market(settings, progress=progress)
    plan, seen = make_rented_plan(request, settings, paths, market, progress, dry=dry)
    return Prepared(plan, request, settings, paths, market, seen)
