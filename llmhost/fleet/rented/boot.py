"""From a rented machine to a login on it: it is made, it runs, it lets us in; each with its own patience (vast facts §2.1, §2.2).

What fails raises BootFailed, which says who is to blame. The instance bills on: whoever called ends it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from llmhost.core.ledger import Ledger
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.rentals import Rental
from llmhost.fleet.installation import alias_of, installation_id
from llmhost.fleet.links import pins_of
from llmhost.fleet.rented.boot_failure import BootFailed as BootFailed
from llmhost.fleet.rented.boot_failure import note, remember
from llmhost.fleet.rented.life import Life
from llmhost.fleet.rented.phases import Teller
from llmhost.fleet.rented.watchtower import Watchtower
from llmhost.fleet.rented.ways_in import Entered, HostKey, WayIn
from llmhost.fleet.visit import Visits
from llmhost.providers.market import Instance, Market
from llmhost.ssh.session import Session
from llmhost.ssh.target import SshTarget

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# A boot that is taken up later than this after the rental was made says nothing about how long the machine takes.
MEASURED_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class BootDesk:
    """What booting needs. Threads share one.

    `stop` set makes all that waits raise Interrupted soon; `visits.close()` ends what is under way over SSH.
    """

    market: Market
    ledger: Ledger
    settings: Settings
    paths: Paths
    watchtower: Watchtower
    visits: Visits
    stop: threading.Event = field(default_factory=threading.Event)

    def alias(self, rental: Rental) -> str:
        """The name that the host key of a rental's node is pinned under. Raises LlmhostError (`state_unwritable`)."""
        return alias_of(installation_id(self.paths), rental.fleet, rental.node_id)


@dataclass(frozen=True, slots=True)
class Booted:
    """A machine that lets us in. `host_key` = how it was learnt: from the container's log, at first sight, or known from before."""

    rental: Rental
    instance: Instance
    session: Session
    target: SshTarget
    alias: str
    host_key: HostKey


def boot(
    rental: Rental, desk: BootDesk, progress: Progress, *, alias: str | None = None, again: bool = False
) -> Booted:
    """Wait until a rental's instance runs and lets us in. `alias` is what its host key is pinned under, None = the usual one.

    `again` = it let us in before, so its pinned host key holds.

    Phases: `booting`, `ssh`. Raises BootFailed, Interrupted (`desk.stop`), SshFailure of our own key, LlmhostError (`state_unwritable`).
    """
    try:
        return _booted(rental, desk, Teller(desk.ledger, rental.label, progress), alias or desk.alias(rental), again)
    except BootFailed as error:
        remember(desk.ledger, rental, error)
        raise


def _booted(rental: Rental, desk: BootDesk, teller: Teller, alias: str, again: bool) -> Booted:
    began = datetime.now(UTC)
    if not again:
        pins_of(desk.paths).forget(alias)  # of an earlier machine that had this name
    life = Life.begin(rental, desk, teller, was_running=again)
    way_in = WayIn(life, desk, teller, alias, "known" if pins_of(desk.paths).keys(alias) else "first")
    while True:
        life.until_running()
        entered = way_in.enter()
        if entered is not None:
            if not again:
                _measure(rental, desk, began)
            return _result(rental, life, entered, alias)


def _result(rental: Rental, life: Life, entered: Entered, alias: str) -> Booted:
    return Booted(rental, life.instance, entered.session, entered.target, alias, entered.host_key)


def _measure(rental: Rental, desk: BootDesk, began: datetime) -> None:
    """Remember how long this machine took from its creation to a login."""
    created = datetime.fromisoformat(rental.created_at)
    if abs((began - created).total_seconds()) <= MEASURED_WITHIN_S:
        note(desk.ledger, rental, boot_s=round((datetime.now(UTC) - created).total_seconds(), 1))
