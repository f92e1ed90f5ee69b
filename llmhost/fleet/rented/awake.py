"""Machines that are being set up, or wait for others to be, are told that somebody is there: their guards know no other sign of that yet.

Without it, a short idle time would end a machine while its server is being copied, and the usual one a machine that is ready long before
another one of the same `up`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from llmhost.core.errors import LlmhostError
from llmhost.core.guard_files import ACTIVE, CONTACT, GUARD
from llmhost.core.rentals import Terms
from llmhost.fleet.extend import guard_command
from llmhost.fleet.rented.budget import lease_end
from llmhost.fleet.visit import Visits

# Where there is a guard; `-c`, because it makes its files itself.
SIGN = f"[ ! -d {GUARD} ] || touch -c {ACTIVE} {CONTACT}"
SIGN_S = 20.0
# Into so many parts a guard's patience is divided, and the longest pause.
PARTS = 4
LONGEST_S = 60.0


def every_s(contact_s: float, idle_s: float | None) -> float:
    """How often a sign is due for guards with this patience."""
    return min(contact_s / PARTS, LONGEST_S, *(() if idle_s is None else (idle_s / PARTS,)))


def tell_lease(visits: Visits, given: Terms, now: Terms | None) -> None:
    """Machines that were given an end when they were rented, and another since (`extend`), learn the new one."""
    if now is None or now.lease_ends_at == given.lease_ends_at:
        return
    command = guard_command(lease_end(now))
    for session in [one for one in list(visits.open) if one.alive]:
        with contextlib.suppress(LlmhostError):
            session.run(command, timeout_s=SIGN_S)


@contextlib.contextmanager
def kept_awake(visits: Visits, pause_s: float) -> Iterator[None]:
    """A sign for every machine that is visited, every `pause_s` seconds; one that cannot be given is the trouble of whoever works there."""
    over = threading.Event()

    def give() -> None:
        while not over.wait(pause_s):
            for session in [one for one in list(visits.open) if one.alive]:
                with contextlib.suppress(LlmhostError):
                    session.run(SIGN, timeout_s=SIGN_S)

    threading.Thread(target=give, name="llmhost-awake", daemon=True).start()
    try:
        yield
    finally:
        over.set()
