"""The ledger: what should exist, kept on disk so that a crash can be explained and everything started again.

SQLite in WAL mode, 0600, because it holds the nodes' tokens. What runs is the supervisor's knowledge, what should run is here. The file is
never deleted by llmhost; one that cannot be read is an error that names it.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llmhost.core import ledger_rentals
from llmhost.core.errors import LlmhostError

SCHEMA_VERSION = 3
BUSY_S = 5.0
_SCHEMA = """
CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    fleet TEXT NOT NULL,
    provider TEXT NOT NULL,
    backend TEXT NOT NULL,
    model TEXT,
    context INTEGER,
    token TEXT NOT NULL,
    spec TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT;
CREATE TABLE gateway (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    port INTEGER NOT NULL,
    explicit INTEGER NOT NULL,
    server TEXT NOT NULL DEFAULT '{}'
) STRICT;
"""
_FROM_1_TO_2 = "ALTER TABLE gateway ADD COLUMN server TEXT NOT NULL DEFAULT '{}'"
# By the format a file has, what makes the present one of it; 0 = an empty file.
_STEPS = {
    0: (*filter(str.strip, _SCHEMA.split(";")), *ledger_rentals.STATEMENTS),
    1: (_FROM_1_TO_2, *ledger_rentals.STATEMENTS),
    2: ledger_rentals.STATEMENTS,
}
_NODE_COLUMNS = "id, fleet, provider, backend, model, context, token, spec, created_at"


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """One node that should serve. `context` in tokens, None = the backend's own choice; `created_at` RFC 3339.

    `spec` holds what only its provider understands (JSON values).
    """

    id: str
    fleet: str
    provider: str
    backend: str
    model: str | None
    context: int | None
    token: str = field(repr=False)
    spec: dict[str, Any] = field(default_factory=dict)
    created_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


@dataclass(frozen=True, slots=True)
class GatewayRecord:
    """The gateway's port. `explicit` = the user asked for it by name, so it is never replaced by another.

    `server` is what the servers were set to (JSON values, desired.server_settings), so that whoever starts them again starts the same;
    it may hold a credential. Empty = not known.
    """

    port: int
    explicit: bool
    server: dict[str, Any] = field(default_factory=dict, repr=False)


class Ledger:
    """An open ledger. Every method raises LlmhostError: `ledger_corrupt`, `state_unwritable` or `state_unreadable`.

    Threads may share one: what one of them writes is never part of another's transaction.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._one_thread = threading.RLock()
        self.rentals = ledger_rentals.Rentals(connection, self._explained, self.transaction)

    @classmethod
    def open(cls, path: Path) -> Ledger:
        """Open, and create what is missing. The folder must exist."""
        with _explained(path):
            _create_private(path)
            connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
            with _closed_on_failure(connection):
                _prepare(path, connection)
        return cls(path, connection)

    @classmethod
    def open_existing(cls, path: Path) -> Ledger | None:
        """Open for reading; None when there is no ledger. Creates nothing that stays."""
        if not path.exists():
            return None
        with _explained(path):
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_S, isolation_level=None
            )
            with _closed_on_failure(connection):
                if not _version(path, connection):
                    connection.close()  # made, but never written
                    return None
                _bring_up_to_date(path, connection)
        return cls(path, connection)

    @classmethod
    def copied(cls, path: Path) -> Ledger | None:
        """What a file says that can be read and not written: nobody sees what is written here, and it ends with this process.

        None when there is no ledger.
        """
        if not path.exists():
            return None
        with _explained(path), contextlib.closing(_reader(path)) as source:
            if not _version(path, source):
                return None
            connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            with _closed_on_failure(connection):
                source.backup(connection)
                _bring_up_to_date(path, connection)
        return cls(path, connection)

    @classmethod
    def in_memory(cls) -> Ledger:
        """One that nobody else sees and that ends with this process: to end what bills although the real one cannot be used."""
        path = Path(":memory:")
        with _explained(path):
            connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            with _closed_on_failure(connection):
                _bring_up_to_date(path, connection)
        return cls(path, connection)

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, and one at a time on this machine: another transaction waits up to five seconds."""
        with self._one_thread:
            with self._explained():
                self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
            with self._explained():
                self._connection.execute("COMMIT")

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        with self._one_thread, _explained(self.path):
            yield

    def nodes(self, fleet: str | None = None) -> list[NodeRecord]:
        """The nodes of a fleet, or of all, oldest first."""
        with self._explained():
            rows = self._connection.execute(f"SELECT {_NODE_COLUMNS} FROM nodes ORDER BY created_at, id").fetchall()
            found = [_node(row) for row in rows]
        return [node for node in found if fleet is None or node.fleet == fleet]

    def put_node(self, node: NodeRecord) -> None:
        """Add it, or replace the one with its id."""
        values = (node.id, node.fleet, node.provider, node.backend, node.model, node.context, node.token)
        with self._explained():
            marks = ", ".join("?" * 9)
            row = (*values, json.dumps(node.spec), node.created_at)
            self._connection.execute(f"INSERT OR REPLACE INTO nodes ({_NODE_COLUMNS}) VALUES ({marks})", row)

    def remove_node(self, id: str) -> None:
        with self._explained():
            self._connection.execute("DELETE FROM nodes WHERE id = ?", (id,))

    def set_nodes(self, nodes: Iterable[NodeRecord]) -> None:
        """Keep exactly these nodes, of all fleets. Inside a transaction."""
        wanted = list(nodes)
        for gone in {node.id for node in self.nodes()} - {node.id for node in wanted}:
            self.remove_node(gone)
        for node in wanted:
            self.put_node(node)

    def gateway(self) -> GatewayRecord | None:
        with self._explained():
            row = self._connection.execute("SELECT port, explicit, server FROM gateway").fetchone()
            return GatewayRecord(int(row[0]), bool(row[1]), json.loads(row[2])) if row else None

    def put_gateway(self, record: GatewayRecord | None) -> None:
        """Keep the gateway's port and settings; None forgets them."""
        with self._explained():
            self._connection.execute("DELETE FROM gateway")
            if record is not None:
                row = (record.port, int(record.explicit), json.dumps(record.server))
                self._connection.execute("INSERT INTO gateway (one, port, explicit, server) VALUES (1, ?, ?, ?)", row)


def _node(row: tuple[Any, ...]) -> NodeRecord:
    id, fleet, provider, backend, model, context, token, spec, created_at = row
    return NodeRecord(id, fleet, provider, backend, model, context, token, json.loads(spec), created_at)


def _create_private(path: Path) -> None:
    """SQLite gives its -wal and -shm files the mode of the main one.

    A file that is there is never opened here: closing it would drop the locks that another connection of this process has on it
    (https://sqlite.org/howtocorrupt.html, §2.2), and two threads would write at once.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        if stat.S_IMODE(path.stat().st_mode) != 0o600:
            path.chmod(0o600)


def _reader(path: Path) -> sqlite3.Connection:
    """On a read-only file system the files beside a database in WAL mode can be used, but not made; where they are not there, because it
    was closed in order, it is read as one that nobody changes (https://sqlite.org/wal.html, §5)."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None)
    try:
        connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        if path.with_name(f"{path.name}-wal").exists():
            raise  # the newest changes are only in there
        return sqlite3.connect(f"{uri}&immutable=1", uri=True, isolation_level=None)
    return connection


def _prepare(path: Path, connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")  # what is rented must not be forgotten by a power cut
    connection.execute("PRAGMA secure_delete = ON")  # a removed node's token is overwritten
    _bring_up_to_date(path, connection)


def _bring_up_to_date(path: Path, connection: sqlite3.Connection) -> None:
    if _version(path, connection) == SCHEMA_VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    version = _version(path, connection)  # another process may have been faster
    for statement in _STEPS.get(version, ()):
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _version(path: Path, connection: sqlite3.Connection) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > SCHEMA_VERSION:
        raise LlmhostError(
            f"the ledger {path} was written by a newer llmhost (format {version}, this one knows {SCHEMA_VERSION}).",
            hint="Use the newer llmhost again, or bring everything down with it first.",
            code="ledger_newer",
        )
    return version


@contextlib.contextmanager
def _closed_on_failure(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise _unusable(path, str(error)) from error
    except (sqlite3.DatabaseError, ValueError) as error:
        raise _corrupt(path, str(error)) from error
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error


def _corrupt(path: Path, why: str) -> LlmhostError:
    return LlmhostError(
        f"the ledger {path} is damaged: {why}.",
        hint=f"Nothing was changed. Stop what still runs (llmhost down), then keep the file aside: mv {path} {path}.damaged",
        code="ledger_corrupt",
    )


def _unusable(path: Path, why: str) -> LlmhostError:
    return LlmhostError(
        f"cannot use the ledger {path}: {why}.",
        hint="Free disk space, make the file readable and its folder writable, or point XDG_STATE_HOME elsewhere.",
        code="state_unwritable",
    )
