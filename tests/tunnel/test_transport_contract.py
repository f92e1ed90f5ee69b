"""What every transport does, each driven as a link drives it, against a real sshd."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmhost.tunnel.base import open_transport
from tests.support import process_tree
from tests.support.echo_node import ask, dial, events
from tests.support.openssh import make_key
from tests.support.system import wait_until
from tests.support.transport_rig import TOKEN, Linked, TransportRig, group_pids, listening_tcp

TRANSPORTS = ("openssh", "sshtunnel")
AT_ONCE_S = 5.0  # the bar is 1 s; a loaded machine gets more
Make = Callable[..., TransportRig]


@pytest.fixture(params=TRANSPORTS)
def make(request: pytest.FixtureRequest, short_tmp: Path) -> Iterator[Make]:
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(TransportRig(short_tmp, request.param, **options))


@pytest.fixture
def rig(make: Make) -> TransportRig:
    return make()


@pytest.fixture(scope="module", params=TRANSPORTS)
def calm(request: pytest.FixtureRequest) -> Iterator[tuple[TransportRig, Linked]]:
    """A connection that is up, for the tests that do it no harm."""
    folder = Path(tempfile.mkdtemp(prefix="lh-"))
    with TransportRig(folder, request.param) as rig:
        yield rig, rig.up()
    shutil.rmtree(folder)


@pytest.fixture
def linked(calm: tuple[TransportRig, Linked]) -> Linked:
    return calm[1]


# ── bytes ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_stream_arrives_event_by_event(linked):
    arrived = [(number, time.monotonic()) for number, _ in events(linked.path, 10, 0.1)]
    assert [number for number, _ in arrived] == list(range(10))
    assert arrived[-1][1] - arrived[0][1] > 0.5


def test_a_prompt_of_a_megabyte_arrives_whole(linked):
    body = os.urandom(1_000_000)
    status, answer = ask(linked.path, "POST", "/upload", body)
    assert (status, json.loads(answer)) == (200, {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()})


def test_an_answer_that_comes_before_the_upload_is_over_is_seen(linked):
    answers = [ask(linked.path, "POST", f"/refuse{how}", b"x" * 1_000_000)[0] for how in ("", "?abrupt=1") * 5]
    assert answers == [413] * 10


def test_a_client_that_half_closes_still_gets_its_answer(linked):
    with dial(linked.path) as client:
        client.sendall(b"POST /until-eof HTTP/1.1\r\n\r\n" + b"x" * 100_000)
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(4096), b""))
    assert answer.endswith(b'{"bytes": 100000}')


def test_fifty_connections_at_once(linked):
    counts = []
    threads = [
        threading.Thread(target=lambda: counts.append(len(list(events(linked.path, 10, 0.05))))) for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [10] * 50


def test_the_node_learns_that_a_client_went_away(calm):
    rig, linked = calm
    with dial(linked.path) as client:
        client.sendall(b"GET /stream?events=1000&every=0.05 HTTP/1.1\r\n\r\n")
        client.recv(100)
    wait_until(lambda: rig.node.counters()["abandoned"] == 1, "the server to see it", 20)


def test_a_node_proxy_that_is_down_costs_the_stream_and_not_the_connection(rig):
    linked = rig.up()
    pid = linked.pid
    rig.node.close()
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(linked.path, "GET", "/health")
    rig.node.start()
    assert ask(linked.path, "GET", "/health")[0] == 200
    assert linked.pid == pid


# ── heartbeat ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_lines_come_back_one_after_the_other(linked):
    assert [linked.echoes(20) for _ in range(5)] == [True] * 5
    assert linked.connection.echo.rtt_s is not None


def test_it_listens_before_the_first_line_comes_back(rig):
    assert ask(rig.up().path, "GET", "/health")[0] == 200  # up() waits for the line only


def test_what_a_start_up_file_prints_is_no_heartbeat(make):
    rig = make(prints="Welcome! 3 updates can be installed\nllmhost-0 1")
    linked = rig.up()
    assert linked.echoes(20)
    assert ask(linked.path, "GET", "/health")[0] == 200


def test_a_frozen_machine_sends_no_line_back_and_its_streams_are_not_cut_at_once(rig):
    linked = rig.up()
    stream = events(linked.path, 1000, 0.05)
    next(stream)
    rig.sshd.freeze_sessions()
    assert not linked.echoes(1.0)
    rig.sshd.thaw()
    assert linked.echoes(20)
    assert [next(stream)[0] for _ in range(20)] == list(range(1, 21))


def test_a_machine_that_stays_silent_is_given_up(rig):
    linked = rig.up(timing={"alive_interval": 1, "alive_count": 2})
    rig.sshd.freeze_sessions()
    reason = linked.wait_ended()
    assert (reason.code, reason.fatal) == ("connection_lost", False)


def test_our_side_may_be_frozen_and_nothing_is_lost(rig):
    """As when a laptop sleeps for a moment: a while without beats is counted, not timed."""
    linked = rig.up(timing={"alive_interval": 1, "alive_count": 2})
    stream = events(linked.path, 50, 0.1)
    next(stream)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        process_tree.send(group_pids(linked.pid), number)
        time.sleep(2.5 if number == signal.SIGSTOP else 0)
    assert linked.echoes(20)
    assert len(list(stream)) == 49


def test_keys_may_be_renewed_in_the_middle_of_everything(make):
    linked = make(options={"RekeyLimit": "256K"}).up()
    stream = events(linked.path, 8, 0.05)
    for number in range(8):
        assert next(stream)[0] == number
        assert ask(linked.path, "POST", "/upload", os.urandom(200_000))[0] == 200
    assert linked.echoes(20)


# ── its end ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_streams_it_ends_with_its_input(rig):
    linked = rig.up()
    linked.connection.retire()
    linked.wait_ended(AT_ONCE_S)
    assert not linked.path.exists()


def test_at_the_end_of_its_input_the_streams_go_on_and_then_it_ends(rig):
    linked = rig.up()
    stream = events(linked.path, 30, 0.1)
    next(stream)
    linked.connection.retire()
    assert [number for number, _ in stream] == list(range(1, 30))
    linked.wait_ended(AT_ONCE_S)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "streaming"])
def test_nothing_is_left_when_the_supervisor_dies(rig, busy):
    linked = rig.up()
    pids = group_pids(linked.pid)
    if busy:
        stream = events(linked.path, 1000, 0.05)
        next(stream)
    rig.supervisor_dies()
    linked.wait_ended(AT_ONCE_S)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "its processes to be gone", AT_ONCE_S)


def test_a_killed_session_ends_it(rig):
    linked = rig.up()
    stream = events(linked.path, 1000, 0.05)
    next(stream)
    rig.sshd.kill_sessions()
    reason = linked.wait_ended()
    assert (reason.code, reason.fatal) == ("connection_lost", False)
    assert len(list(stream)) < 999  # the stream ends too, and does not hang


# ── what it takes and shows ─────────────────────────────────────────────────────────────────────────────────────────


def test_nothing_in_the_home_s_ssh_folder_is_used(rig, monkeypatch):
    home, marker = rig.folder / "h", rig.folder / "marker"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text(f"Host *\n  ProxyCommand touch {marker}\n  User nobody\n  Port 1\n")
    (home / ".ssh" / "known_hosts").write_text("garbage\n")
    (home / ".ssh" / "id_ed25519").write_bytes(rig.sshd.client_key.read_bytes())
    (home / ".ssh" / "id_ed25519").chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    assert ask(rig.up().path, "GET", "/health")[0] == 200
    assert not marker.exists()
    stranger = make_key(rig.folder / "stranger")
    assert rig.start(identity=str(stranger)).wait_ended().code == "auth_refused"


def test_no_tcp_port_is_opened_and_the_socket_is_the_owner_s(linked):
    ask(linked.path, "GET", "/health")
    assert listening_tcp(group_pids(linked.pid)) == []
    assert stat.S_IMODE(linked.path.stat().st_mode) == 0o600


def test_a_socket_that_was_left_behind_is_replaced(rig):
    linked = rig.up()
    linked.close()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(rig.folder / "g1"))
    assert ask(rig.up().path, "GET", "/health")[0] == 200


def test_no_secret_is_in_its_arguments_or_environment(calm):
    rig, linked = calm
    key = rig.sshd.client_key.read_text().split("\n")[1]
    for pid in group_pids(linked.pid):
        shown = Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/environ").read_text()
        assert TOKEN not in shown
        assert key not in shown
    transport = open_transport(rig.spec.transport)
    assert TOKEN not in transport.first_line(rig.spec, "l").decode()
