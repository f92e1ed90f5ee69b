"""The ledger on a real file."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys

import pytest

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import GatewayRecord, Ledger, NodeRecord

NODE = NodeRecord("n1", "default", "local", "rehearsal", None, 65536, "secret-token", {"ollama_url": "http://x"})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite3"


def test_what_is_put_is_there_after_reopening(path):
    with Ledger.open(path) as ledger:
        ledger.put_node(NODE)
        ledger.put_gateway(GatewayRecord(8123, True))
    with Ledger.open(path) as ledger:
        assert ledger.nodes() == [NODE]
        assert ledger.nodes("other") == []
        assert ledger.gateway() == GatewayRecord(8123, True)


def test_removed_is_removed(path):
    with Ledger.open(path) as ledger:
        ledger.put_node(NODE)
        ledger.put_gateway(GatewayRecord(8123, True))
        ledger.remove_node("n1")
        ledger.put_gateway(None)
        assert ledger.nodes() == []
        assert ledger.gateway() is None


def test_all_its_files_are_private(path):
    before = os.umask(0o022)
    try:
        with Ledger.open(path) as ledger:
            ledger.put_node(NODE)
            modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3-shm"), 0o600)


def test_a_token_is_not_shown(path):
    assert "secret-token" not in repr(NODE)


def test_a_removed_token_is_gone_from_the_disk(path):
    with Ledger.open(path) as ledger:
        ledger.put_node(NODE)
    with Ledger.open(path) as ledger:
        ledger.remove_node("n1")
    assert b"secret-token" not in path.read_bytes()


def test_a_failed_transaction_leaves_nothing(path):
    def fail_halfway(ledger):
        with ledger.transaction():
            ledger.put_node(NODE)
            raise RuntimeError

    with Ledger.open(path) as ledger:
        with pytest.raises(RuntimeError):
            fail_halfway(ledger)
        assert ledger.nodes() == []


def test_looking_creates_nothing(path):
    assert Ledger.open_existing(path) is None
    assert list(path.parent.iterdir()) == []


def test_looking_sees_what_is_there_and_leaves_no_files(path):
    with Ledger.open(path) as ledger:
        ledger.put_node(NODE)
    with Ledger.open_existing(path) as ledger:
        assert ledger.nodes() == [NODE]
    assert [file.name for file in path.parent.iterdir()] == ["ledger.sqlite3"]


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be looked at" * 50, b"\0" * 5000])
def test_a_damaged_file_is_named_and_kept(path, content):
    path.write_bytes(content)
    for opening in (Ledger.open, Ledger.open_existing):
        with pytest.raises(LlmhostError) as failure:
            opening(path)
        assert failure.value.code == "ledger_corrupt"
        assert str(path) in failure.value.message
        assert f"{path}.damaged" in failure.value.hint
    assert path.read_bytes() == content


def test_a_file_cut_short_is_named_and_kept(path):
    with Ledger.open(path) as ledger:
        ledger.put_node(NODE)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + b"\xff" * 4096)
    with pytest.raises(LlmhostError) as failure, Ledger.open(path) as ledger:
        ledger.nodes()
    assert failure.value.code == "ledger_corrupt"


def test_a_file_from_the_future_is_left_alone(path):
    import sqlite3

    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(LlmhostError) as failure:
        Ledger.open(path)
    assert failure.value.code == "ledger_newer"


@pytest.mark.parametrize("opening", [Ledger.open, Ledger.open_existing])
def test_a_file_of_the_first_format_is_read(path, opening):
    import sqlite3

    with Ledger.open(path) as ledger:
        ledger.put_node(NODE)
        ledger.put_gateway(GatewayRecord(8123, True))
    connection = sqlite3.connect(path)
    for table in ("rentals", "terms", "inventory", "machines"):
        connection.execute(f"DROP TABLE {table}")
    connection.execute("ALTER TABLE gateway DROP COLUMN server")
    connection.execute("PRAGMA user_version = 1")
    connection.close()
    with opening(path) as ledger:
        assert (ledger.nodes(), ledger.gateway()) == ([NODE], GatewayRecord(8123, True))


def test_the_servers_settings_are_kept_and_not_shown(path):
    record = GatewayRecord(8123, False, {"cache": {"redis": {"password": "hidden-one"}}})
    with Ledger.open(path) as ledger:
        ledger.put_gateway(record)
        assert ledger.gateway() == record
        ledger.put_gateway(None)
    assert "hidden-one" not in repr(record)
    assert b"hidden-one" not in path.read_bytes()


def test_a_folder_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(LlmhostError) as failure:
        Ledger.open(tmp_path / "nowhere" / "ledger.sqlite3")
    assert failure.value.code == "state_unwritable"


def test_a_full_disk_is_a_clear_error_and_nothing_is_lost(path):
    with Ledger.open(path) as ledger:
        ledger.put_node(NODE)
    code = f"""
import resource, signal
from pathlib import Path
from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger, NodeRecord
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Ledger.open(Path({str(path)!r})) as ledger:
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
    try:
        ledger.put_node(NodeRecord("n2", "default", "local", "rehearsal", "m" * 100_000, None, "t"))
    except LlmhostError as error:
        print(error.code)
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    assert shown.stdout.strip() == "state_unwritable", shown.stderr
    with Ledger.open(path) as ledger:
        assert ledger.nodes() == [NODE]


def test_a_process_killed_in_a_transaction_changes_nothing(path):
    with Ledger.open(path) as ledger:
        ledger.put_node(NODE)
    code = f"""
import os, signal
from pathlib import Path
from llmhost.core.ledger import Ledger
ledger = Ledger.open(Path({str(path)!r}))
with ledger.transaction():
    ledger.remove_node("n1")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=20)
    assert done.returncode == -signal.SIGKILL
    with Ledger.open(path) as ledger:
        assert ledger.nodes() == [NODE]


def test_two_transactions_wait_for_each_other(path):
    script = f"""
from pathlib import Path
from llmhost.core.ledger import GatewayRecord, Ledger
with Ledger.open(Path({str(path)!r})) as ledger:
    for _ in range(50):
        with ledger.transaction():
            found = ledger.gateway()
            ledger.put_gateway(GatewayRecord((found.port if found else 0) + 1, False))
"""
    running = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [process.wait(30) for process in running] == [0, 0, 0, 0]
    with Ledger.open(path) as ledger:
        assert ledger.gateway() == GatewayRecord(200, False)
