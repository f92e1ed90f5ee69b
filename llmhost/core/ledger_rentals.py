"""The ledger's tables of rented machines."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any

from llmhost.core.errors import LlmhostError
from llmhost.core.rentals import NEXT, OPEN, Inventory, MachineNote, Rental, RentalState, Terms

SCHEMA = """
CREATE TABLE rentals (
    label TEXT PRIMARY KEY,
    fleet TEXT NOT NULL,
    node_id TEXT NOT NULL,
    state TEXT NOT NULL,
    created_at TEXT NOT NULL,
    rental TEXT NOT NULL
) STRICT;
CREATE TABLE terms (
    fleet TEXT PRIMARY KEY,
    terms TEXT NOT NULL
) STRICT;
CREATE TABLE inventory (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    inventory TEXT NOT NULL
) STRICT;
CREATE TABLE machines (
    machine_id INTEGER PRIMARY KEY,
    note TEXT NOT NULL
) STRICT;
"""
STATEMENTS = tuple(filter(str.strip, SCHEMA.split(";")))
Guard = Callable[[], contextlib.AbstractContextManager[None]]


class Rentals:
    """What `Ledger.rentals` gives. Every method raises what the ledger raises."""

    def __init__(self, connection: sqlite3.Connection, explained: Guard, transaction: Guard) -> None:
        self._connection = connection
        self._explained = explained
        self._transaction = transaction

    def all(self, fleet: str | None = None, *, open_only: bool = False) -> list[Rental]:
        """Oldest first."""
        with self._explained():
            rows = self._connection.execute("SELECT rental FROM rentals ORDER BY created_at, label").fetchall()
            found = [Rental(**json.loads(row[0])) for row in rows]
        wanted = (rental for rental in found if fleet is None or rental.fleet == fleet)
        return [rental for rental in wanted if rental.is_open or not open_only]

    def get(self, label: str) -> Rental | None:
        with self._explained():
            row = self._connection.execute("SELECT rental FROM rentals WHERE label = ?", (label,)).fetchone()
            return Rental(**json.loads(row[0])) if row else None

    def add(self, rental: Rental) -> None:
        """Write it down, on the disk when this returns. A label is used once: a second time raises LlmhostError (`ledger_corrupt`)."""
        with self._explained():
            self._connection.execute("INSERT INTO rentals VALUES (?, ?, ?, ?, ?, ?)", _row(rental))

    def move(self, label: str, state: RentalState, **fields: Any) -> Rental:
        """It is in this state now, and these fields are others. A step backwards is an error (`rental_state`), and changes nothing."""
        with self._alone():
            before = self.get(label)
            if before is None or (state != before.state and state not in NEXT[before.state]):
                raise _impossible(label, before, state)
            after = replace(before, state=state, **fields)
            with self._explained():
                self._connection.execute("INSERT OR REPLACE INTO rentals VALUES (?, ?, ?, ?, ?, ?)", _row(after))
        return after

    def tell(self, label: str, phase: str, detail: str | None = None) -> None:
        """How far its boot is. Nothing happens to one that is unknown or over."""
        rental = self.get(label)
        if rental is not None and rental.is_open:
            self.move(label, rental.state, phase=phase, detail=detail)

    def terms(self, fleet: str) -> Terms | None:
        with self._explained():
            row = self._connection.execute("SELECT terms FROM terms WHERE fleet = ?", (fleet,)).fetchone()
            if row is None:
                return None
            data = json.loads(row[0])
            return Terms(**{**data, "alerted": tuple(data["alerted"])})

    def put_terms(self, terms: Terms) -> None:
        with self._explained():
            row = (terms.fleet, json.dumps(asdict(terms)))
            self._connection.execute("INSERT OR REPLACE INTO terms VALUES (?, ?)", row)

    def forget_terms(self, fleet: str) -> None:
        with self._explained():
            self._connection.execute("DELETE FROM terms WHERE fleet = ?", (fleet,))

    def inventory(self) -> Inventory:
        with self._explained():
            row = self._connection.execute("SELECT inventory FROM inventory").fetchone()
            if row is None:
                return Inventory()
            data = json.loads(row[0])
            return Inventory(**{**data, "instances": tuple(data["instances"])})

    def put_inventory(self, inventory: Inventory) -> None:
        with self._explained():
            row = (json.dumps(asdict(inventory)),)
            self._connection.execute("INSERT OR REPLACE INTO inventory VALUES (1, ?)", row)

    def machines(self) -> dict[int, MachineNote]:
        with self._explained():
            rows = self._connection.execute("SELECT note FROM machines").fetchall()
            notes = [MachineNote(**json.loads(row[0])) for row in rows]
        return {note.machine_id: note for note in notes}

    def note_machine(self, machine_id: int, **fields: Any) -> None:
        """Remember something more about a machine."""
        with self._alone():
            note = replace(self.machines().get(machine_id) or MachineNote(machine_id), **fields)
            with self._explained():
                row = (machine_id, json.dumps(asdict(note)))
                self._connection.execute("INSERT OR REPLACE INTO machines VALUES (?, ?)", row)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """A transaction, the one that is open already if there is one."""
        with self._explained():  # another thread's transaction is over then
            joined = self._connection.in_transaction
            with contextlib.nullcontext() if joined else self._transaction():
                yield


def _row(rental: Rental) -> tuple[str, ...]:
    return rental.label, rental.fleet, rental.node_id, rental.state, rental.created_at, json.dumps(asdict(rental))


def _impossible(label: str, before: Rental | None, state: RentalState) -> LlmhostError:
    found = f"is {before.state}" if before else "is not in the ledger"
    return LlmhostError(
        f"the rental {label} {found}, so it cannot become {state}.",
        hint="llmhost status --refresh",
        code="rental_state",
    )


assert set(NEXT) == {*OPEN, "gone", "refused"}
