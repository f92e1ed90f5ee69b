"""How a plan with rented machines is made: ledger and market are brought together, then offers are looked for where nodes are missing."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import NothingSuitable
from llmhost.core.ledger import GatewayRecord, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.rentals import Rental, Terms
from llmhost.fleet.desired import VAST, phase_of
from llmhost.fleet.hosts import free_ids
from llmhost.fleet.installation import alias_of, installation_id
from llmhost.fleet.offers import Survey, disk_gb, survey
from llmhost.fleet.plan import (
    OF_THE_GATEWAY,
    UpRequest,
    changes_of,
    port_of,
    refuse_second_fleet,
    which_provider,
)
from llmhost.fleet.remote_look import check_port
from llmhost.fleet.rented.books import RENTAL
from llmhost.fleet.rented.change import Change, change_for
from llmhost.fleet.rented.order import order_for
from llmhost.fleet.rented.parting import still_billing
from llmhost.fleet.rented.plan import Kept, Money, RentedPlan, Seat, action_of, check_budget, check_credit
from llmhost.fleet.rented.request import RentWish
from llmhost.fleet.rented.seen import Seen, glance, look
from llmhost.fleet.rented.wishes import going_on, sources_of, terms_for, wish_for
from llmhost.fleet.turn import is_taken
from llmhost.providers.base import BackendChoice
from llmhost.providers.market import Instance, Market
from llmhost.providers.model_choice import FAVOURITE
from llmhost.ssh.identity import own_key, public_key

if TYPE_CHECKING:
    from llmhost.core.settings import Settings


# How much dearer by the hour the machine may be that takes a failed one's place: by half, or by so much. `up` shows it before it asks.
SPARE_RATIO, SPARE_USD = 1.5, 0.2


def make_rented_plan(
    request: UpRequest, settings: Settings, paths: Paths, market: Market, progress: Progress, *, dry: bool = False
) -> tuple[RentedPlan, Seen]:
    """Look and decide; nothing is rented. `dry` = the ledger is not written, so it is not brought up to date either.

    Raises UsageError, NothingSuitable (no offer, too large a model, too little credit), StillBilling for an attempt of which nobody knows
    what came of it, and what the market raises.
    """
    fleet = request.fleet or settings.fleet
    refuse_second_fleet(fleet, glance(fleet, paths).nodes)
    at_work = is_taken(paths)
    seen = glance(fleet, paths) if dry else look(fleet, settings, paths, market, progress, at_work=at_work)
    return plan_of(seen, request, settings, paths, market, progress), seen


def plan_of(
    seen: Seen, request: UpRequest, settings: Settings, paths: Paths, market: Market, progress: Progress
) -> RentedPlan:
    """The plan for what was seen. Raises as `make_rented_plan` does."""
    return _Maker(seen, request, settings, paths, market, progress).plan()


@dataclass(frozen=True, slots=True)
class _Maker:
    seen: Seen
    request: UpRequest
    settings: Settings
    paths: Paths
    market: Market
    progress: Progress

    @property
    def fleet(self) -> str:
        return self.request.fleet or self.settings.fleet

    def plan(self) -> RentedPlan:
        refuse_second_fleet(self.fleet, self.seen.nodes)
        there, lost = self._there()
        inherited = self.seen.terms if there else None
        wish = wish_for(self.request, self.settings, inherited, len(there))
        kept = [one for one in there if _same_card(one, wish, self.settings)]
        leaving = tuple(node.id for node in self.seen.nodes if node.id not in lost and _not_of(node, kept))
        leftovers = self._leftovers(kept)
        now = time.time()
        terms, notes = terms_for(self.fleet, wish, self.settings, inherited if kept else None, now)
        terms = going_on(terms, inherited) if inherited else terms
        changed = tuple(change for one in kept if (change := change_for(one.node, wish)) is not None)
        seats = self._seats(wish.count - len(kept))
        found = self._survey(wish, terms, now) if seats else None
        choice = _choice(wish, found, kept, changed)
        port, port_source = port_of(self.request, self.settings, self.seen.gateway)
        if self.request.tunnel:
            check_port(port, self.seen.gateway)  # not when a machine has been rented and set up for it
        changes = changes_of(self.seen.gateway, port, self.paths) if self.seen.nodes else ()
        plan = RentedPlan(
            fleet=self.fleet,
            wish=wish,
            choice=choice,
            kept=tuple(kept),
            seats=seats,
            offers=self._offers(found, len(seats)),
            leaving=leaving,
            lost=lost,
            gateway=port,
            action=self._action(seats, kept, leaving, port, changes, changed=bool(changed)),
            tunnel=self.request.tunnel,
            money=self._money(found, terms),
            terms=terms,
            disk_gb=disk_gb(wish),
            made_at=now,
            survey=found,
            leftovers=leftovers,
            changed=changed,
            sources=self._sources(wish, inherited) | {"port": port_source},
            changes=changes,
            notes=(
                *self._notes(leftovers),
                *self._too_many(kept),
                *self._offer_not_taken(kept, seats),
                *notes,
                *(found.notes if found else ()),
            ),
        )
        check_budget(plan)
        check_credit(plan)
        return replace(plan, onstart=self._onstart(plan)) if seats else plan

    def _there(self) -> tuple[list[Kept], tuple[str, ...]]:
        """The rented nodes that serve, and the ids of those whose machine is gone."""
        rentals = {rental.label: rental for rental in self.seen.rentals if rental.is_open}
        ours = [node for node in self.seen.nodes if node.provider == VAST]
        there = [
            Kept(node, rental)
            for node in ours
            if (rental := rentals.get(str(node.spec.get(RENTAL)))) is not None
            and phase_of(node) is None
            and rental.state in ("rented", "ready")
        ]
        return there, tuple(node.id for node in ours if str(node.spec.get(RENTAL)) not in rentals)

    def _leftovers(self, kept: Sequence[Kept]) -> tuple[Rental, ...]:
        """Rented by an `up` that did not get to its end, or not ended by a `down`. Raises StillBilling where nobody knows."""
        if self.seen.at_work:
            return ()  # they may be that other one's
        serving = {str(node.spec.get(RENTAL)) for node in self.seen.nodes}
        left = [
            one for one in self.seen.rentals if one.is_open and one.fleet == self.fleet and one.label not in serving
        ]
        unknown = [one for one in left if one.state in ("intent", "unknown")]
        if unknown and self.seen.found is not None:
            raise still_billing(unknown, None, "llmhost status --refresh asks again, llmhost down ends it")
        return tuple(left)

    def _seats(self, missing: int) -> tuple[Seat, ...]:
        taken = [*(node.id for node in self.seen.nodes), *(one.node_id for one in self.seen.rentals if one.is_open)]
        ids = free_ids(taken)
        installation = installation_id(self.paths) if missing > 0 else ""
        found = []
        for _ in range(missing):
            node_id = next(ids)
            found.append(Seat(node_id, secrets.token_hex(6), alias_of(installation, self.fleet, node_id)))
        return tuple(found)

    def _survey(self, wish: RentWish, terms: Terms, now: float) -> Survey:
        if terms.lease_ends_at is not None:
            left = datetime.fromisoformat(terms.lease_ends_at).timestamp() - now
            if left <= 0:
                raise _lease_over(self.fleet)
            wish = replace(wish, lease_s=left)
        found = survey(wish, self.settings, self.market, self.seen.machines, self.progress)
        found.require()
        return found

    def _offers(self, found: Survey | None, seats: int) -> tuple[Any, ...]:
        """One for each seat, and spares for as many more attempts."""
        if found is None:
            return ()
        busy = {one.machine_id for one in self.seen.rentals if one.is_open}
        free = [one for one in found.chosen if one.offer.machine_id not in busy]
        if len(free) < seats:
            raise _too_few(len(free), seats)
        dearest = max(one.offer.price_usd_per_hour for one in free[:seats])
        most = max(SPARE_RATIO * dearest, dearest + SPARE_USD)
        spares = [one for one in free[seats:] if one.offer.price_usd_per_hour <= most]
        return tuple(free[:seats] + spares[: seats * (self.settings.vast_attempts - 1)])

    def _money(self, found: Survey | None, terms: Terms) -> Money:
        from llmhost.fleet.rented.budget import standing

        ends = None if terms.lease_ends_at is None else datetime.fromisoformat(terms.lease_ends_at).timestamp()
        credit = found.credit_usd if found else self.seen.credit_usd
        spent = standing(self.fleet, terms, self.seen.rentals, datetime.now(UTC)).spent_usd if self.seen.terms else 0.0
        return Money(credit, ends, terms.budget_usd, spent)

    def _action(
        self,
        seats: Sequence[Seat],
        kept: Sequence[Kept],
        leaving: Sequence[str],
        port: GatewayRecord,
        changes: tuple[str, ...],
        *,
        changed: bool,
    ) -> Any:
        gateway = self.seen.gateway
        moved = port.explicit and gateway is not None and gateway.port != port.port
        of_servers = any(not name.startswith(OF_THE_GATEWAY) for name in changes)
        return action_of(seats, kept, leaving, changes, in_place=changed or of_servers, moved=moved)

    def _sources(self, wish: RentWish, inherited: Terms | None) -> dict[str, str]:
        provider = which_provider(self.request, self.settings, self.seen.nodes)[1]
        sources = sources_of(self.request, self.settings, inherited)
        return sources | {"provider": provider, "fleet": self.settings.source("fleet")}

    def _notes(self, leftovers: Sequence[Rental]) -> list[str]:
        notes = [
            f"{one.node_id} (instance {one.instance_id}) was rented and does not serve: it is ended first."
            for one in leftovers
        ]
        notes += [_of_orphan(orphan.instance) for orphan in (self.seen.found.orphans if self.seen.found else ())]
        return notes

    def _too_many(self, kept: Sequence[Kept]) -> list[str]:
        """Nothing that serves is ended because a smaller number was named."""
        if self.request.count is None or self.request.count >= len(kept):
            return []
        return [
            f"{len(kept)} nodes are there, and {self.request.count} asked for; to let one go: llmhost down {kept[-1].node.id}"
        ]

    def _offer_not_taken(self, kept: Sequence[Kept], seats: Sequence[Seat]) -> list[str]:
        """An offer that was named, when nothing more is to be rented."""
        offer = self.request.offer_id
        if offer is None or seats or offer in {one.rental.offer_id for one in kept}:
            return []
        more = len(kept) + 1
        return [
            f"offer {offer} is not rented, because there are as many machines as were asked for; "
            f"to add it: llmhost up --count {more} --offer {offer}"
        ]

    def _onstart(self, plan: RentedPlan) -> str:
        first = plan.taken[0].offer
        fit = plan.survey.fit_of(first) if plan.survey else None
        return order_for(
            first,
            fit,
            plan.wish.model,
            alias=plan.seats[0].alias,
            terms=plan.terms,
            key=public_key(own_key(self.paths)),
            settings=self.settings,
            disk_gb=plan.disk_gb,
        ).onstart


def _same_card(one: Kept, wish: RentWish, settings: Settings) -> bool:
    """A card that was named must be the one that is there."""
    from llmhost.fleet.rented.gpu_names import market_names

    if wish.gpu is None or settings.source("gpu") == "default":
        return True
    return one.rental.gpu in market_names(wish.gpu)


def _not_of(node: NodeRecord, kept: Sequence[Kept]) -> bool:
    return all(node.id != one.node.id for one in kept)


def _of_orphan(instance: Instance) -> str:
    price = instance.price_usd_per_hour or 0.0
    return f"instance {instance.id} is ours and belongs to no fleet that is known (${price:.3f}/h): llmhost gc"


def _choice(wish: RentWish, found: Survey | None, kept: Sequence[Kept], changed: Sequence[Change]) -> BackendChoice:
    if found is None and changed:
        return changed[0].choice
    if found is None and kept:
        node = kept[0].node
        return BackendChoice(wish.backend, "it serves already", node.model, node.context)
    if wish.backend == "rehearsal":
        return BackendChoice("rehearsal", "asked for by name", wish.model, wish.context)
    why = "the recommended model" if wish.model == FAVOURITE else "asked for by name"
    context = found.fit.context if found and found.fit else wish.context
    return BackendChoice("ollama", why, wish.model, context, missing=True)


def _lease_over(fleet: str) -> NothingSuitable:
    return NothingSuitable(
        f"the lease of fleet {fleet!r} is over, so nothing more is rented for it.",
        hint="llmhost extend 4h, or llmhost down and then llmhost up",
        code="lease_over",
    )


def _too_few(there: int, wanted: int) -> NothingSuitable:
    return NothingSuitable(
        f"{wanted} machines are wanted, and {there} have a fitting offer.",
        hint="llmhost offers shows what else there is; or ask for fewer: llmhost up --count N",
        code="too_few_offers",
    )
