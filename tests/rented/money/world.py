"""An installation with machines rented on the marketplace stand-in, as an `up` that is over (or died) leaves it, and the watch over it."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from llmhost.core.ledger import GatewayRecord, Ledger, NodeRecord
from llmhost.core.rentals import Inventory, Rental, Terms
from llmhost.fleet.desired import SUPERVISOR, VAST, WATCH
from llmhost.fleet.installation import installation_id
from llmhost.fleet.rented.ownership import new_label
from llmhost.fleet.rented.watch import watch_spec
from llmhost.supervisor.launch import ensure_supervisor
from tests.support.installation import Installation, installation
from tests.support.marketplace.market import Market
from tests.support.marketplace.server import MarketServer
from tests.support.system import free_port, wait_until

PATIENCE_S = 30.0
# Everything that takes its time on the real market, short. The stand-in is told to be as quick.
QUICK = {
    "vast_pace": 0,
    "vast_settle_s": 0.2,
    "vast_settle_answers": 2,
    "vast_poll_s": 0.1,
    "vast_verify_s": 3,
    "vast_watch_s": 0.3,
    "vast_read_timeout_s": 5,
    "vast_write_timeout_s": 0.5,
    "node_drain_s": 0.2,
}


def stamp(ago_s: float = 0.0) -> str:
    """RFC 3339, so many seconds ago."""
    return (datetime.now(UTC) - timedelta(seconds=ago_s)).isoformat(timespec="milliseconds")


class World:
    def __init__(self, server: MarketServer, place: Installation) -> None:
        self.server, self.place = server, place
        self.control, self.paths = server.control, place.paths
        self.flags: dict[str, Any] = {**QUICK, "vast_url": server.url, "vast_api_key": server.key}
        self.paths.create()
        self._offers = iter(sorted(offer.id for offer in server.market.offers if offer.rentable))

    @property
    def settings(self) -> Any:
        return self.place.settings(**self.flags)

    @property
    def environ(self) -> dict[str, str]:
        """For real commands."""
        quick = {f"LLMHOST_{name.upper()}": str(value) for name, value in QUICK.items()}
        return {**self.place.environ, **quick, "VAST_URL": self.server.url, "VAST_API_KEY": self.server.key}

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        with Ledger.open(self.paths.ledger_file) as ledger:
            yield ledger

    def label(self, fleet: str = "default") -> str:
        return new_label(installation_id(self.paths), fleet, uuid.uuid4().hex[:12], 1)

    def machine(self, label: str | None) -> int:
        """Rented on the market, whoever knows of it."""
        return self.control.rent(next(self._offers), label)

    def rent(
        self, node: str = "n1", fleet: str = "default", *, state: str = "ready", ago_s: float = 60.0, **fields: Any
    ) -> Rental:
        """Rented there and in the ledger, in this state; one that is ready has a node's record too."""
        label = self.label(fleet)
        number = None if state == "intent" else self.machine(label)
        row = {
            "label": label,
            "fleet": fleet,
            "node_id": node,
            "state": state,
            "created_at": stamp(ago_s),
            "rented_at": None if state in ("intent", "unknown") else stamp(ago_s),
            "ready_at": stamp(ago_s) if state == "ready" else None,
            "offer_id": 1,
            "machine_id": 2,
            "host_id": 3,
            "gpu": "RTX 4090",
            "price_usd_per_hour": 0.4,
            "instance_id": None if state == "unknown" else number,
        }
        rental = Rental(**{**row, **fields})
        with self.ledger() as ledger:
            ledger.rentals.add(rental)
            if state == "ready":
                ledger.put_node(self.node(rental))
                ledger.put_gateway(ledger.gateway() or GatewayRecord(free_port(), False))
        return rental

    def node(self, rental: Rental, port: int = 9) -> NodeRecord:
        spec = {
            "target": {"host": "127.0.0.1", "port": port, "user": "root"},
            "alias": f"llmhost-test-{rental.node_id}",
            "folder": ".llmhost/nodes/x",
            "python": "python3",
            "remote_socket": "/tmp/no-such-llmhost.sock",
            "transport": "sshtunnel",
            "rental": rental.label,
        }
        return NodeRecord(rental.node_id, rental.fleet, VAST, "rehearsal", None, None, "token", spec)

    def terms(self, fleet: str = "default", **fields: Any) -> Terms:
        terms = replace(Terms(fleet, since=stamp(7 * 86_400.0)), **fields)
        with self.ledger() as ledger:
            ledger.rentals.put_terms(terms)
        return terms

    def watch(self) -> None:
        """Let a real supervisor run the watch."""
        with ensure_supervisor(self.paths, module=SUPERVISOR) as client:
            client.ask("apply", children=[watch_spec(self.settings, self.paths).as_dict()], links=[])

    def rental(self, label: str) -> Rental:
        with self.ledger() as ledger:
            found = ledger.rentals.get(label)
        assert found is not None
        return found

    def spend(self, rental: Rental, usd: float) -> None:
        """Let it have cost so much by now."""
        with self.ledger() as ledger:
            hours = usd / rental.price_usd_per_hour
            ledger.rentals.move(rental.label, self.rental(rental.label).state, rented_at=stamp(hours * 3600))

    def nodes(self) -> list[str]:
        with self.ledger() as ledger:
            return [node.id for node in ledger.nodes()]

    def inventory(self) -> Inventory:
        with self.ledger() as ledger:
            return ledger.rentals.inventory()

    def wait_state(self, label: str, *states: str) -> Rental:
        wait_until(
            lambda: self.rental(label).state in states,
            f"the rental to be {states}; it is {self.rental(label)}\n{self.log()}",
            PATIENCE_S,
        )
        return self.rental(label)

    def bills(self) -> list[int]:
        """The numbers of what costs money now."""
        return sorted(one.id for one in self.control.billing_now())

    def log(self) -> str:
        path = self.paths.log_file(WATCH)
        return path.read_text() if path.exists() else ""

    def said(self, kind: str) -> list[dict[str, Any]]:
        """The alerts of this kind in the watch's log."""
        entries = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [entry for entry in entries if entry.get("alert") == kind]

    def wait_said(self, kind: str, times: int = 1) -> list[dict[str, Any]]:
        wait_until(lambda: len(self.said(kind)) >= times, f"{times} {kind}\n{self.log()}", PATIENCE_S)
        return self.said(kind)


@contextlib.contextmanager
def world(**market: Any) -> Iterator[World]:
    """Nothing may bill that nobody looks after when a test ends well: each asserts that itself."""
    quick = {"pace": 0.01, "vanish_s": 0.0, "limits": False, **market}
    with MarketServer(Market(**quick)) as server, installation() as place:
        yield World(server, place)
