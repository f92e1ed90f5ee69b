"""The whole of it with rented machines: `llmhost` as a user runs it, against the stand-in of the marketplace with real machines."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.marketplace.market import Market
from tests.support.marketplace.sandbox import sandboxes
from tests.support.marketplace.server import MarketServer
from tests.support.stack import Stack

# How much faster the market's own time passes, its rate limits included.
PACE = 0.02
# Everything of ours that takes its time, as fast.
QUICK = {
    "LLMHOST_VAST_PACE": str(PACE),
    "LLMHOST_VAST_POLL_S": "0.2",
    "LLMHOST_VAST_SETTLE_S": "0.5",
    "LLMHOST_VAST_VERIFY_S": "20",
    "LLMHOST_VAST_READ_TIMEOUT_S": "5",
    "LLMHOST_VAST_WRITE_TIMEOUT_S": "5",
    "LLMHOST_VAST_STALL_S": "8",
    "LLMHOST_VAST_UNPACK_STALL_S": "12",
    "LLMHOST_VAST_BOOT_S": "60",
    "LLMHOST_VAST_SSH_S": "30",
    "LLMHOST_VAST_WATCH_S": "1",
    "LLMHOST_VAST_GUARD_EVERY_S": "1",
    "LLMHOST_NODE_DRAIN_S": "5",
    "LLMHOST_TUNNEL_BACKOFF_FIRST": "0.05",
    "LLMHOST_TUNNEL_LOGIN_EVERY": "0.1",
    "LLMHOST_TUNNEL_PROBE_EVERY": "0.2",
}


def rent_settings(server: MarketServer) -> dict[str, str]:
    """The environment of an account on that market."""
    return {"VAST_URL": server.url, "VAST_API_KEY": server.key, "LLMHOST_VAST_SSH_USER": getpass.getuser(), **QUICK}


@contextlib.contextmanager
def quick_market(folder: Path | None = None, **settings: Any) -> Iterator[MarketServer]:
    """A market that is served; with a folder (of a short path) there is a real machine behind every instance."""
    machines = {} if folder is None else {"machines": sandboxes(folder)}
    market = Market(**machines, **{"pace": PACE, **settings})
    market.limits.factor = PACE
    with MarketServer(market) as server:
        yield server
    assert market.trouble == []


class RentedStack(Stack):
    """An installation with an account. What it leaves on the market is a failure of the test."""

    def __init__(self, server: MarketServer, **settings: str) -> None:
        super().__init__(**{**rent_settings(server), **settings})
        self.server = server

    def up_vast(self, *args: str, exit_code: int = 0) -> dict[str, Any]:
        return self.json("up", "--backend", "rehearsal", "--yes", *args, exit_code=exit_code)

    def billing(self) -> list[int]:
        """The ids of everything that costs money now."""
        return [cost.id for cost in self.server.control.billing_now()]
