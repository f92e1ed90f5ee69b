"""Why a rented machine does not serve, and whose fault that is, which decides whether another machine is worth a try."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from llmhost.core.errors import LlmhostError, NotReady
from llmhost.core.ledger import Ledger
from llmhost.core.rentals import Rental
from llmhost.fleet.rented.classify import Blame, Failed

# What another machine may do better; then this one is remembered as bad, unless only the market itself was silent.
OF_THE_MACHINE: tuple[Blame, ...] = ("host", "network")
SILENT = "market_silent"
_HINTS: dict[Blame, str] = {
    "host": "Another machine may do: llmhost up",
    "network": "Check your own network, or take another machine: llmhost up",
    "image": "If it happens on a second machine, take another image: llmhost up --image NAME",
    "account": "Look at the account: llmhost doctor",
    "ours": "llmhost status --refresh",
}
MAX_WHY = 200


class BootFailed(NotReady):
    """A machine that was rented will not serve. It still bills: whoever gets this ends it. `blame` says whose fault it is."""

    default_code = "boot_failed"

    def __init__(self, message: str, *, blame: Blame, code: str | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint or _HINTS[blame], code=code)
        self.blame: Blame = blame


def failed(rental: Rental, verdict: Failed) -> BootFailed:
    """The verdict in words."""
    text = verdict.text.rstrip(".")
    return BootFailed(f"{name_of(rental)} {text}.", blame=verdict.blame, code=verdict.code)


def because(rental: Rental, error: LlmhostError, blame: Blame, *, code: str | None = None) -> BootFailed:
    """Another error as the reason of a boot that failed."""
    hint = "" if blame in OF_THE_MACHINE else error.hint
    return BootFailed(f"{name_of(rental)}: {error.message}", blame=blame, code=code or error.code, hint=hint)


def name_of(rental: Rental) -> str:
    """A rented machine as people read of it."""
    return f"instance {rental.instance_id} ({rental.gpu})"


def remember(ledger: Ledger, rental: Rental, error: BootFailed) -> None:
    """Remember the machine as one that failed, if it is to blame, so that it is not chosen again soon (vast facts §4.3)."""
    if error.blame in OF_THE_MACHINE and error.code != SILENT:
        note(ledger, rental, failed_at=_now(), why=f"{error.code}: {error.message}"[:MAX_WHY])


def proven(ledger: Ledger, rental: Rental, down_mbps: float | None) -> None:
    """Remember the machine as one that served; `down_mbps` = how fast the model came, in Mbit/s, where that was seen."""
    measured = {} if down_mbps is None else {"down_mbps": round(down_mbps, 1)}
    note(ledger, rental, proven_at=_now(), **measured)


def note(ledger: Ledger, rental: Rental, **fields: object) -> None:
    """Keep something about a rental's machine. That it cannot be kept ends nothing."""
    with contextlib.suppress(LlmhostError):
        ledger.rentals.note_machine(rental.machine_id, **fields)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
