"""An installation that rents, its commands, and what must hold: what the market bills is what `status` knows, and `down` ends it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path
from typing import Any

from llmhost.core.ledger import GatewayRecord, Ledger, NodeRecord
from llmhost.core.rentals import Rental
from llmhost.fleet.desired import VAST
from tests.rented.matrix.running import Commands, Running
from tests.support.claude import Run
from tests.support.marketplace.server import MarketServer
from tests.support.rented_stack import RentedStack
from tests.support.system import free_port, processes_touching, wait_until

# Machines that come to nothing are given up soon, and one that cannot be ended is not waited for.
QUICK = {
    "LLMHOST_VAST_POLL_S": "0.1",
    "LLMHOST_VAST_SETTLE_S": "0.3",
    "LLMHOST_VAST_VERIFY_S": "5",
    "LLMHOST_VAST_READ_TIMEOUT_S": "3",
    "LLMHOST_VAST_WRITE_TIMEOUT_S": "3",
    "LLMHOST_VAST_STALL_S": "0.6",
    "LLMHOST_VAST_UNPACK_STALL_S": "0.6",
    "LLMHOST_VAST_WATCH_S": "0.3",
    "LLMHOST_VAST_OFFLINE_S": "1",
    "LLMHOST_NODE_DRAIN_S": "0.5",
}
# For machines that move on, or that something else is to happen to.
PATIENT = {"LLMHOST_VAST_STALL_S": "30", "LLMHOST_VAST_UNPACK_STALL_S": "30"}
UP = ("--json", "up", "--backend", "rehearsal", "--yes")
LEAK = 6


class House(RentedStack):
    """`foreign` are machines of the account that are none of ours."""

    def __init__(self, server: MarketServer, commands: Commands, **settings: str) -> None:
        super().__init__(server, **{**QUICK, **settings})
        self.commands = commands
        self.control = server.control
        self.foreign: set[int] = set()

    # ── commands ────────────────────────────────────────────────────────────────────────────────────────────────

    def begin(self, *args: str, largest: int | None = None) -> Running:
        return self.commands.start(args, self.env, self.work, largest)

    def run(self, *args: str) -> Run:
        return self.begin("--json", *args).wait()

    def up(self, *args: str) -> Run:
        return self.begin(*UP, *args).wait()

    def begin_up(self, *args: str) -> Running:
        return self.begin(*UP, *args)

    def end(self, *args: str) -> Run:
        return self.run("down", "--yes", *args)

    # ── what is the case ────────────────────────────────────────────────────────────────────────────────────────

    def bills(self) -> set[int]:
        """What of ours costs money now."""
        return set(self.billing()) - self.foreign

    def known(self) -> set[int]:
        """The machines that `status --refresh` shows: on nodes, or as orphans of ours."""
        fleet = self.run("status", "--refresh").expect().json["data"]["fleet"]
        shown = [*fleet["nodes"], *(orphan for orphan in fleet["orphans"] if orphan["ours"])]
        return {int(one["instance_id"]) for one in shown if one["instance_id"] is not None}

    def open_rows(self) -> list[Any]:
        with Ledger.open(self.state_dir / "ledger.sqlite3") as ledger:
            return ledger.rentals.all(open_only=True)

    def processes(self) -> list[int]:
        return [pid for pid in processes_touching(self.root) if pid != os.getpid()]

    def kill(self, name: str) -> None:
        """As `kill -9` of the supervisor or of the watch under it."""
        module = {"supervisor": "llmhost.tunnel.supervisor", "watch": "llmhost.fleet.rented.watch"}[name]
        found = [pid for pid, line in processes_touching(self.root).items() if f"-m {module}" in line]
        assert found, f"no {name} runs"
        for pid in found:
            os.kill(pid, signal.SIGKILL)

    def power_cut(self, command: Running | None = None) -> None:
        """Every process of the installation is gone at once."""
        for pid in [*([command.pid] if command else []), *self.processes()]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if command is not None:
            command.wait()

    def serve_on_paper(self) -> int:
        """As an `up` leaves it, but that nobody can reach the machine: rented, ready, in the ledger. Its number."""
        up = self.begin_up()
        wait_until(lambda: self.bills() and self.open_rows()[0].state == "rented", "something is rented", 30)
        self.power_cut(up)
        (number,) = self.bills()
        with Ledger.open(ledger_of(self)) as ledger:
            (row,) = ledger.rentals.all(open_only=True)
            ledger.rentals.move(row.label, "ready", ready_at=row.rented_at)
            ledger.put_node(_unreachable(row))
            ledger.put_gateway(GatewayRecord(free_port(), False))
        return number

    # ── what must hold ──────────────────────────────────────────────────────────────────────────────────────────

    def assert_known(self, *, blind: bool = False) -> None:
        """Nothing bills that nobody knows of; and what is over is known to be, soon, unless llmhost is `blind`: the list does not work."""

        def agree() -> bool:
            before, known = self.bills(), self.known()
            unknown = (before & self.bills()) - known
            assert not unknown, f"{unknown} bill, and status does not know them ({known})\n{self.logs()}"
            return blind or known == self.bills()

        wait_until(agree, "status and the market to agree", 20)

    def assert_named(self, done: Run, *, blind: bool = False) -> None:
        """A command that ended with 6 names exactly what bills, by number, or by label where nobody knows the number."""
        rows = done.json["data"]["still_billing"]
        labels = {self.control.instance(number).label: number for number in self.bills()}
        named = {int(row["instance_id"]) if row["instance_id"] else labels.get(row["label"]) for row in rows} - {None}
        assert self.bills() <= named if blind else self.bills() == named, (rows, self.bills())

    def assert_ends(self, *, blind: bool = False) -> None:
        """`down` ends all of it; or it says what bills, and the next one ends that."""
        done = self.end()
        if done.exit_code == LEAK:
            self.assert_named(done, blind=blind)
            self.control.clear_faults()
            self.env["LLMHOST_VAST_VERIFY_S"] = "20"
            done = self.end()
        assert done.exit_code == 0, (done.stdout, done.stderr)
        assert self.billing() == sorted(self.foreign)
        assert self.open_rows() == []

    def assert_nothing_leaks(self, *, blind: bool = False) -> None:
        self.assert_known(blind=blind)
        self.assert_ends(blind=blind)

    def remove(self) -> None:
        """Nothing runs and nothing bills after a test, whatever came of it."""
        self.end()
        self.power_cut()
        shutil.rmtree(self.root, ignore_errors=True)


def _unreachable(row: Rental) -> NodeRecord:
    spec = {
        "target": {"host": "127.0.0.1", "port": 9, "user": "root"},
        "alias": "llmhost-test-n1",
        "folder": ".llmhost/nodes/x",
        "python": "python3",
        "remote_socket": "/tmp/no-such-llmhost.sock",
        "transport": "openssh",
        "rental": row.label,
    }
    return NodeRecord(row.node_id, row.fleet, VAST, "rehearsal", None, None, "token", spec)


def error_of(done: Run) -> str:
    """The code of the first error, "" for none."""
    errors = done.json["errors"]
    return str(errors[0]["code"]) if errors else ""


def ledger_of(house: House) -> Path:
    return house.state_dir / "ledger.sqlite3"
