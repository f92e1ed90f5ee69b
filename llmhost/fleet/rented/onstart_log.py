"""What the start script of a rented machine said: its container's log, which only the market has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger
from llmhost.core.paths import Paths
from llmhost.core.rentals import Rental
from llmhost.fleet.logs import LogLine, line_of
from llmhost.fleet.rented.diagnosis import known_secrets, redacted
from llmhost.fleet.together import at_once
from llmhost.providers.market import Market

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

ONSTART = "onstart"


def onstart_logs(
    settings: Settings, paths: Paths, fleet: str, node: str | None, lines: int
) -> tuple[list[LogLine], list[str]]:
    """The last lines of every machine that is rented for a fleet, or of the one of that node, without secrets.

    A warning for each that could not be asked. Raises AuthenticationNeeded (`no_key`), what the ledger raises.
    """
    from llmhost.providers.vast.key import find_key
    from llmhost.providers.vast.market import open_market

    ledger = Ledger.open_existing(paths.ledger_file)
    if ledger is None:
        return [], []
    with ledger:
        rented = [
            one for one in ledger.rentals.all(fleet, open_only=True) if one.instance_id and node in (None, one.node_id)
        ]
        secrets = known_secrets(settings, ledger, paths, find_key(settings)) if rented else []
    return _asked(rented, open_market(settings), secrets, lines) if rented else ([], [])


def _asked(
    rented: Sequence[Rental], market: Market, secrets: Sequence[str], lines: int
) -> tuple[list[LogLine], list[str]]:
    found: list[LogLine] = []
    warnings = []
    texts = at_once(rented, lambda one: market.logs(one.instance_id or 0, lines))
    for rental, text in zip(rented, texts, strict=True):
        if isinstance(text, LlmhostError):
            warnings.append(f"the log of {rental.node_id}'s container cannot be had: {text.message}")
        else:
            told = redacted(text, secrets).splitlines()[-lines:] if lines > 0 else []
            found += [line_of(ONSTART, rental.node_id, line) for line in told]
    return found, warnings
