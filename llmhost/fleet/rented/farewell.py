"""The end of one rented machine: what was tried, and what the market's list said since."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from llmhost.core.errors import AuthenticationNeeded, LlmhostError
from llmhost.core.rentals import Rental, RentalState
from llmhost.fleet.rented import claims
from llmhost.fleet.rented.bill import spent
from llmhost.fleet.rented.desk import RentDesk
from llmhost.providers.market import Instance

# Lists without it that prove that it is gone (vast facts §4.2 step 8).
ANSWERS = 2
# Into how many parts the time for an end is divided: after each of them it is stopped, and destroyed again.
PARTS = 3


@dataclass(slots=True)
class Farewell:
    """`not_before`: until then (monotonic) the market's list may not have heard of it yet, unless it was `seen`."""

    rental: Rental
    why: str
    started: float
    not_before: float
    accepted: bool = False
    seen: bool = False
    clean: int = 0
    pushes: int = 0
    gone: bool = False
    anothers: bool = False
    trouble: LlmhostError | None = None
    unwritten: LlmhostError | None = None
    seconds: list[int] = field(default_factory=list)

    @property
    def is_refused(self) -> bool:
        """Whether the key is what keeps it from ending: it may not destroy it, or is that of another account (`anothers`)."""
        forbidden = isinstance(self.trouble, AuthenticationNeeded) and not self.accepted and self.clean == 0
        return self.anothers or forbidden

    def begin(self, desk: RentDesk) -> None:
        """Write down that it is to end, where its id is known."""
        rental = self.rental
        self.gone = not rental.is_open
        if rental.instance_id is not None and not self.gone:
            why = rental.why if rental.state == "destroying" else self.why
            since = rental.rented_at or rental.created_at
            known = {
                "instance_id": rental.instance_id,
                "rented_at": since,
                "price_usd_per_hour": rental.price_usd_per_hour,
            }
            self._write(desk, "destroying", why=why, **known)

    def push(self, desk: RentDesk) -> None:
        """Destroy it, until that was taken; again, and stopped, when it is still there after a third of the time."""
        part = int(PARTS * (desk.clock.monotonic() - self.started) / desk.timing.verify_s)
        again = part > self.pushes and self.clean == 0
        number = self.rental.instance_id
        if self.gone or number is None or (self.accepted and not again):
            return
        if again:
            self.pushes = part
            self._try(desk.market.stop, number)
        self.accepted = self._try(desk.market.destroy, number)

    def look(self, instances: list[Instance], asked_at: float, rows: list[Rental], desk: RentDesk) -> list[Rental]:
        """What a clean list says that was asked for then (monotonic).

        Returns rows for machines that one order made besides; they are to be ended too.
        """
        found = claims.hits(self.rental, instances, rows)
        number = self.rental.instance_id
        if number is None and found:
            return self._adopt(found, desk)
        if any(instance.id == number for instance in instances):
            self.seen, self.clean = True, 0
        else:
            self.clean += 1
            self._conclude(asked_at, desk)
        return [self._second(each, desk) for each in found if each.id not in (number, *self.seconds)]

    def _second(self, instance: Instance, desk: RentDesk) -> Rental:
        """It ends also where it cannot be written down."""
        self.seconds.append(instance.id)
        try:
            return claims.remember_second(self.rental, instance, desk)
        except LlmhostError as error:
            self.unwritten = error
            return claims.second_of(self.rental, instance)

    def _conclude(self, asked_at: float, desk: RentDesk) -> None:
        needed = ANSWERS if self.rental.instance_id is not None else max(ANSWERS, desk.timing.settle_answers)
        if self.clean < needed or (not self.seen and asked_at < self.not_before):
            return
        self.anothers = not self.seen and desk.is_anothers(self.rental)
        if self.anothers:
            return
        self.gone = True
        if self.rental.instance_id is None and self.rental.state != "destroying":
            self._write(desk, "refused", why=self.why, ended_at=desk.stamp())
            return
        cost = spent(self.rental, desk.now())
        self._write(desk, "gone", ended_at=desk.stamp(), spent_usd=cost)

    def _adopt(self, found: list[Instance], desk: RentDesk) -> list[Rental]:
        self.seen, self.clean = True, 0
        try:
            self.rental, seconds = claims.adopt(self.rental, found, desk, "destroying")
        except LlmhostError as error:
            self.unwritten = error
            self.rental = replace(self.rental, state="destroying", instance_id=found[0].id)
            return []
        self._write(desk, "destroying", why=self.why)
        return seconds

    def _try(self, call: Any, number: int) -> bool:
        try:
            call(number)
        except LlmhostError as error:
            self.trouble = error
            return False
        return True

    def _write(self, desk: RentDesk, state: RentalState, **fields: Any) -> None:
        """A ledger that cannot be written does not keep a machine billing, nor does one that says that it is over."""
        meant = replace(self.rental, state=state, **fields)
        try:
            kept = desk.move(self.rental, state, **fields)
        except LlmhostError as error:
            self.unwritten = error
            self.rental = meant
            return
        self.rental = kept if kept.is_open == meant.is_open else meant
