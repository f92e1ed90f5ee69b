"""The supervisor with real processes: started once, found again, killed, stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmhost.core.errors import LlmhostError
from llmhost.core.paths import Paths
from llmhost.supervisor import lock
from llmhost.supervisor.client import connect
from llmhost.supervisor.control import ControlServer, Reply
from llmhost.supervisor.environment import clean_environment
from llmhost.supervisor.launch import end_holder, end_supervisor, ensure_supervisor, find_supervisor
from llmhost.supervisor.logfile import EventLog
from llmhost.supervisor.loopback import request
from llmhost.supervisor.peer import peer_pid
from llmhost.supervisor.process import alive, command_of, wait_gone
from tests.support import fake_children
from tests.support.installation import installation
from tests.support.system import free_port, poll, processes_touching, wait_until


def start(place, *specs, **more):
    """Supervisor up, specs applied; the reply."""
    with ensure_supervisor(place.paths) as client:
        return client.ask("apply", children=[spec.as_dict() for spec in specs], **more)


def wait_up(place, name):
    return wait_until(lambda: (child := place.child(name))["state"] == "up" and child, f"{name} to be up")


def timed(call):
    """The seconds a call takes."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


def answering_pid(address):
    """The process that answers there; None when nobody does."""
    try:
        return request(address, "GET", "/internal/status", token=fake_children.TOKEN, timeout_s=5).data["pid"]
    except OSError:
        return None


def test_it_runs_what_it_is_told_and_both_answer(place):
    reply = start(place, fake_children.node(place.paths), fake_children.gateway(free_port()))
    assert reply["started"] == ["node-n1", "gateway"]
    wait_up(place, "node-n1")
    gateway = wait_up(place, "gateway")
    assert answering_pid(f"127.0.0.1:{gateway['port']}") == gateway["pid"]
    assert answering_pid(f"unix:{place.paths.node_socket('n1')}") == place.child("node-n1")["pid"]
    assert gateway["reading"]["ready"] is True
    assert gateway["restarts"] == 0


def test_socket_lock_and_logs_are_for_their_owner_only(place):
    start(place, fake_children.node(place.paths))
    for path in (place.paths.control_socket, place.paths.supervisor_lock, place.paths.log_file("supervisor")):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_the_same_again_changes_nothing(place):
    port = free_port()
    specs = (fake_children.node(place.paths), fake_children.gateway(port))
    start(place, *specs)
    before = [wait_up(place, name)["pid"] for name in ("node-n1", "gateway")]
    reply = start(place, *specs)
    assert (reply["kept"], reply["started"], reply["replaced"]) == (["node-n1", "gateway"], [], [])
    assert [wait_up(place, name)["pid"] for name in ("node-n1", "gateway")] == before


def test_a_changed_child_is_replaced_on_its_port_and_the_other_stays(place):
    port = free_port()
    start(place, fake_children.node(place.paths), fake_children.gateway(port))
    node, gateway = wait_up(place, "node-n1")["pid"], wait_up(place, "gateway")
    reply = start(place, fake_children.node(place.paths), fake_children.gateway(port, model="another"))
    assert reply["replaced"] == ["gateway"]
    wait_until(lambda: place.child("gateway")["pid"] not in (None, gateway["pid"]), "a new gateway")
    assert wait_up(place, "gateway")["port"] == gateway["port"]
    assert wait_up(place, "node-n1")["pid"] == node


def test_what_is_not_asked_for_any_more_is_stopped(place):
    start(place, fake_children.node(place.paths), fake_children.node(place.paths, id="n2"))
    pid = wait_up(place, "node-n2")["pid"]
    assert start(place, fake_children.node(place.paths))["removed"] == ["node-n2"]
    assert wait_gone([pid], 5) == []
    wait_until(lambda: not place.paths.node_socket("n2").exists(), "the socket to be removed")


def test_keep_leaves_what_runs_and_adds_what_is_missing(place):
    start(place, fake_children.node(place.paths))
    pid = wait_up(place, "node-n1")["pid"]
    reply = start(
        place, fake_children.node(place.paths, model="another"), fake_children.gateway(free_port()), keep=True
    )
    assert (reply["kept"], reply["started"]) == (["node-n1"], ["gateway"])
    assert wait_up(place, "node-n1")["pid"] == pid


def test_a_killed_child_comes_back_and_says_why(place):
    start(place, fake_children.node(place.paths), fake_children.gateway(free_port()))
    wait_up(place, "node-n1")
    first = wait_up(place, "gateway")
    os.kill(first["pid"], signal.SIGKILL)
    wait_until(lambda: place.child("gateway")["restarts"] == 1, "the crash to be noticed", 2)
    second = wait_up(place, "gateway")
    assert second["pid"] != first["pid"]
    assert second["reason"].startswith("killed by SIGKILL after ")


def test_a_request_sent_while_the_gateway_is_dead_is_answered_by_the_next_one(place):
    start(place, fake_children.gateway(free_port()))
    first = wait_up(place, "gateway")
    os.kill(first["pid"], signal.SIGKILL)
    wait_gone([first["pid"]], 2)
    assert answering_pid(f"127.0.0.1:{first['port']}") not in (None, first["pid"])


def test_a_child_that_keeps_crashing_is_reported_with_its_last_words(place):
    start(place, fake_children.node(place.paths, "--exit", "3"))
    child = wait_until(lambda: (one := place.child("node-n1"))["restarts"] >= 2 and one, "two crashes")
    assert child["reason"].startswith("exited with code 3 after ")
    assert child["last_lines"][-1] == "the wheels came off"
    assert child["state"] in ("restarting", "starting")
    assert child["next_try_at"] or child["pid"]


def test_a_program_that_is_not_there_is_explained(place):
    spec = fake_children.node(place.paths)
    start(place, type(spec)(name="node-n1", argv=("/nonexistent/program",)))
    child = wait_until(lambda: (one := place.child("node-n1"))["reason"] and one, "the failure")
    assert child["reason"] == "cannot be started: No such file or directory"


def test_a_socket_file_that_somebody_removed_is_bound_again(place):
    start(place, fake_children.node(place.paths))
    first = wait_up(place, "node-n1")["pid"]
    place.paths.node_socket("n1").unlink()
    place.paths.control_socket.unlink()
    wait_until(place.paths.control_socket.exists, "the control socket", 5)
    wait_until(lambda: place.child("node-n1")["pid"] not in (None, first), "another node process", 5)
    wait_up(place, "node-n1")
    assert answering_pid(f"unix:{place.paths.node_socket('n1')}")


def test_kill_9_of_the_supervisor_leaves_no_process(place):
    start(place, fake_children.node(place.paths), fake_children.gateway(free_port()))
    pids = [wait_up(place, name)["pid"] for name in ("node-n1", "gateway")]
    os.kill(place.supervisor_pid(), signal.SIGKILL)
    assert wait_gone(pids, 2) == []
    assert find_supervisor(place.paths) is None


def test_after_kill_9_the_next_start_needs_no_cleaning_and_gets_the_port_back(place):
    port = free_port()
    specs = (fake_children.node(place.paths), fake_children.gateway(port, explicit=True))
    start(place, *specs)
    pids = [wait_up(place, name)["pid"] for name in ("node-n1", "gateway")]
    os.kill(place.supervisor_pid(), signal.SIGKILL)
    wait_gone(pids, 5)
    assert place.paths.supervisor_lock.exists()
    assert place.paths.control_socket.exists()
    assert start(place, *specs)["ports"] == {"gateway": port}
    wait_up(place, "gateway")


def test_twenty_starts_at_once_give_one_supervisor_and_one_answer(place):
    specs = (fake_children.node(place.paths), fake_children.gateway(free_port()))

    def one(_):
        with ensure_supervisor(place.paths) as client:
            reply = client.ask("apply", children=[spec.as_dict() for spec in specs])
            return client.ask("hello")["pid"], reply["ports"]["gateway"]

    with ThreadPoolExecutor(20) as pool:
        answers = set(pool.map(one, range(20)))
    assert len(answers) == 1
    wait_up(place, "gateway")
    started = [
        line for line in place.paths.log_file("supervisor").read_text().splitlines() if "supervisor_started" in line
    ]
    assert len(started) == 1


def test_stop_leaves_no_process_socket_lock_or_port(place):
    reply = start(place, fake_children.node(place.paths), fake_children.gateway(free_port()))
    wait_up(place, "gateway")
    with connect(place.paths.control_socket) as client:
        assert end_supervisor(client) == []
    assert processes_touching(place.root) == {}
    assert [path.name for path in place.paths.runtime_dir.iterdir()] == []
    assert not place.paths.supervisor_lock.exists()
    socket.create_server(("127.0.0.1", reply["ports"]["gateway"])).close()


def test_sigterm_stops_it_in_order(place):
    start(place, fake_children.node(place.paths))
    child = wait_up(place, "node-n1")["pid"]
    pid = place.supervisor_pid()
    os.kill(pid, signal.SIGTERM)
    assert wait_gone([pid, child], 5) == []
    assert not place.paths.supervisor_lock.exists()
    assert not place.paths.control_socket.exists()


def test_stopping_lets_a_running_request_finish(place):
    start(place, fake_children.gateway(free_port()))
    port = wait_up(place, "gateway")["port"]
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(request, f"127.0.0.1:{port}", "GET", "/slow?0.7", timeout_s=5)
        wait_until(lambda: place.child("gateway")["reading"]["in_flight"] == 1, "the request to be in flight")
        with connect(place.paths.control_socket) as client:
            assert end_supervisor(client) == []
        assert slow.result().status == 200


def test_a_child_that_will_not_stop_is_killed_after_its_grace(place):
    start(place, fake_children.node(place.paths, "--deaf", grace_s=0.3))
    pid = wait_up(place, "node-n1")["pid"]
    began = time.monotonic()
    with connect(place.paths.control_socket) as client:
        assert end_supervisor(client) == []
    assert not alive(pid)
    assert time.monotonic() - began < 3


def test_what_a_child_started_itself_ends_with_it(place):
    start(place, fake_children.node(place.paths, "--grandchild"))
    child = wait_up(place, "node-n1")
    stayer = int(child["reading"]["name"].split()[1])
    assert alive(stayer)
    os.kill(child["pid"], signal.SIGKILL)
    assert wait_gone([stayer], 5) == []


def test_every_reply_comes_within_100_ms_even_from_a_frozen_child(place):
    start(place, fake_children.node(place.paths), fake_children.gateway(free_port()))
    wait_up(place, "node-n1")
    pid = wait_up(place, "gateway")["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        with connect(place.paths.control_socket) as client:
            assert min(timed(lambda: client.ask("status")) for _ in range(5)) < 0.1
        assert wait_until(lambda: place.child("gateway")["state"] == "degraded", "the freeze to be noticed", 6)
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_up(place, "gateway")


def test_a_status_request_brings_counts_that_are_fresh(place):
    start(place, fake_children.gateway(free_port()))
    port = wait_up(place, "gateway")["port"]
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(request, f"127.0.0.1:{port}", "GET", "/slow?0.3", timeout_s=5)
        wait_until(lambda: place.child("gateway")["reading"]["in_flight"] == 1, "the request to be seen", 2)
        slow.result()
        assert place.child("gateway")["reading"]["in_flight"] == 0


def test_a_port_asked_for_by_name_and_taken_is_refused_and_nothing_changes(place):
    start(place, fake_children.node(place.paths))
    wait_up(place, "node-n1")
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(LlmhostError) as failure:
            start(place, fake_children.gateway(port, explicit=True))
    assert failure.value.code == "port_in_use"
    assert failure.value.exit_code == 1
    assert str(port) in failure.value.message
    assert [child["name"] for child in place.children()] == ["node-n1"]


def test_a_default_port_that_is_taken_gives_the_next_free_one(place):
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        chosen = start(place, fake_children.gateway(port))["ports"]["gateway"]
        assert port < chosen <= port + 50
        assert start(place, fake_children.gateway(port))["kept"] == ["gateway"]


def test_another_port_asked_for_by_name_moves_the_gateway(place):
    first, second = free_port(), free_port()
    start(place, fake_children.gateway(first))
    wait_up(place, "gateway")
    assert start(place, fake_children.gateway(second, explicit=True))["replaced"] == ["gateway"]
    wait_until(lambda: answering_pid(f"127.0.0.1:{second}"), "an answer on the new port")
    wait_until(lambda: answering_pid(f"127.0.0.1:{first}") is None, "the old port to be closed")


def test_no_child_but_the_gateway_inherits_the_port_or_the_lock(place):
    start(place, fake_children.gateway(free_port()), fake_children.node(place.paths))
    wait_up(place, "gateway")
    node = wait_up(place, "node-n1")["pid"]
    open_files = {os.readlink(f"/proc/{node}/fd/{number}") for number in os.listdir(f"/proc/{node}/fd")}
    assert str(place.paths.supervisor_lock) not in open_files
    with open(f"/proc/{place.supervisor_pid()}/net/tcp") as table:
        port = f":{place.child('gateway')['port']:04X} "
        inode = next(line.split()[9] for line in table if port in line and " 0A " in line)
    assert f"socket:[{inode}]" not in open_files


def test_no_secret_is_in_a_log_an_argv_or_an_environment(place, monkeypatch, tmp_path):
    monkeypatch.setenv("REDIS_PASSWORD", "hidden-in-the-environment")
    record = tmp_path / "record"
    start(place, fake_children.node(place.paths, "--record", str(record)))
    child = wait_up(place, "node-n1")
    told = json.loads(record.read_text().splitlines()[0])
    assert told["config"]["token"] == fake_children.TOKEN
    assert "REDIS_PASSWORD" not in told["environ"]
    shown = b"".join(Path(f"/proc/{child['pid']}/{name}").read_bytes() for name in ("cmdline", "environ"))
    shown += b"".join(path.read_bytes() for path in place.paths.log_dir.iterdir())
    assert fake_children.TOKEN.encode() not in shown


@pytest.mark.parametrize(
    "name",
    [
        *("VAST_API_KEY", "GITHUB_TOKEN", "GITHUB_PAT", "REDIS_URL", "REDIS_PASSWORD", "DATABASE_URL", "PGPASSFILE"),
        *("AWS_ACCESS_KEY_ID", "ANTHROPIC_AUTH_TOKEN", "OLLAMA_API_KEY", "LLAMA_ARG_API_KEY", "SENTRY_DSN", "npm_auth"),
        *("LLMHOST_REDIS_URL", "SSH_AUTH_SOCK", "CLAUDE_CONFIG_DIR"),
    ],
)
def test_the_background_environment_has_no_credentials(name):
    assert clean_environment({"PATH": "/bin", name: "hidden"}) == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR", "SSL_CERT_FILE", "LD_LIBRARY_PATH"),
        *(
            "https_proxy",
            "HTTPS_PROXY",
            "no_proxy",
            "OLLAMA_MODELS",
            "CUDA_VISIBLE_DEVICES",
            "HSA_OVERRIDE_GFX_VERSION",
        ),
        *("PYTHONPATH", "VIRTUAL_ENV", "GGML_CUDA_NO_PINNED", "LLAMA_ARG_THREADS"),
    ],
)
def test_the_background_environment_has_what_programs_need(name):
    assert clean_environment({name: "1"}) == {name: "1"}


def test_a_client_may_be_silent_for_as_long_as_it_likes(short_tmp):
    before = set(os.listdir("/proc/self/fd"))
    server = ControlServer(short_tmp / "s", lambda _: Reply({"ok": True}), EventLog(short_tmp / "log"))
    server.start()
    with connect(short_tmp / "s") as client:
        client.ask("hello")
        served = [int(fd) for fd in set(os.listdir("/proc/self/fd")) - before if _peer_of(int(fd)) == os.getpid()]
        # A time-out of Python's is a descriptor that does not block. Ours, the client's, has one; the server's must have none.
        assert sorted(os.get_blocking(fd) for fd in served) == [False, True]
    server.unlink()


def _peer_of(descriptor):
    """The process at the other end of a connected Unix socket; None for anything else."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as copy:
            copy.getpeername()
            return peer_pid(copy)
    except OSError:
        return None


def test_a_socket_that_was_removed_at_the_end_is_not_bound_again(short_tmp):
    server = ControlServer(short_tmp / "s", lambda _: Reply({"ok": True}), EventLog(short_tmp / "log"))
    server.unlink()
    server.start()
    assert not poll((short_tmp / "s").exists, 1.5)


def test_two_state_directories_under_one_runtime_folder_do_not_meet(place):
    other = Paths.from_environment({**place.environ, "XDG_STATE_HOME": str(place.root / "other")})
    start(place, fake_children.node(place.paths))
    pid = place.supervisor_pid()
    assert find_supervisor(other) is None
    with ensure_supervisor(other) as client:
        assert client.pid != pid
        assert client.ask("status")["children"] == []
        assert end_supervisor(client) == []
    assert wait_up(place, "node-n1")
    assert place.supervisor_pid() == pid


def test_a_stranger_with_the_number_of_a_crashed_supervisors_child_survives_the_next_start(place):
    place.paths.create()
    program = [sys.executable, "-c", "import time; time.sleep(60)", "llmhost.proxy"]
    stranger = subprocess.Popen(program, process_group=0)
    wait_until(lambda: "llmhost.proxy" in command_of(stranger.pid), "the stranger to be there")
    try:
        told = {"pid": 1, "version": "0.1.0", "started_at": time.time(), "children": [stranger.pid]}
        place.paths.supervisor_lock.write_text(json.dumps(told))
        start(place, fake_children.node(place.paths))
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_lock_whose_text_names_a_stranger_is_an_error_and_kills_nobody(place):
    place.paths.create()
    held = lock.try_lock(place.paths.supervisor_lock)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "llmhost"])
    try:
        lock.write_holder(held, lock.Holder(stranger.pid, "0.1.0", time.time()))
        with pytest.raises(LlmhostError) as failure:
            end_holder(place.paths)
        assert failure.value.code == "supervisor_silent"
        assert stranger.poll() is None
    finally:
        os.close(held)
        stranger.kill()
        stranger.wait()


def test_what_is_wanted_can_be_asked_for_with_the_port_that_was_found(place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wished = fake_children.gateway(taken.getsockname()[1])
        port = start(place, fake_children.node(place.paths), wished)["ports"]["gateway"]
    with connect(place.paths.control_socket) as client:
        node, gateway = client.wanted()
    assert node == fake_children.node(place.paths)
    assert (gateway.listen.port, gateway.without_listen()) == (port, wished.without_listen())


def test_a_stale_socket_and_a_stale_lock_file_are_no_obstacle(place):
    place.paths.create()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(place.paths.control_socket))
    place.paths.supervisor_lock.write_text('{"pid": 1, "version": "0.0.1", "started_at": 0}')
    assert start(place, fake_children.node(place.paths))["started"] == ["node-n1"]
    assert lock.read_holder(place.paths.supervisor_lock).pid == place.supervisor_pid()


def test_a_runtime_folder_with_a_long_path_works():
    with installation(folder_length=90) as place:
        start(place, fake_children.node(place.paths), fake_children.gateway(free_port()))
        wait_up(place, "node-n1")


def test_a_supervisor_that_cannot_start_shows_the_end_of_its_log(place):
    place.paths.create()
    place.paths.control_socket.mkdir()
    with pytest.raises(LlmhostError) as failure:
        ensure_supervisor(place.paths)
    assert failure.value.code in ("supervisor_failed", "state_unsafe")
    assert str(place.paths.control_socket) in failure.value.message
    place.paths.control_socket.rmdir()


def test_a_lock_that_cannot_be_made_is_a_clear_error(place):
    place.paths.create()
    place.paths.supervisor_lock.mkdir()
    with pytest.raises(LlmhostError) as failure:
        ensure_supervisor(place.paths)
    assert failure.value.code == "state_unwritable"
    assert failure.value.hint


def test_a_frozen_supervisor_is_named_and_can_be_ended(place):
    start(place, fake_children.node(place.paths))
    child = wait_up(place, "node-n1")["pid"]
    pid = place.supervisor_pid()
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(LlmhostError) as failure:
        ensure_supervisor(place.paths)
    assert failure.value.code == "supervisor_silent"
    assert str(pid) in failure.value.message
    with connect(place.paths.control_socket) as client:
        assert end_supervisor(client) == []
    assert wait_gone([pid, child], 5) == []


def test_garbage_on_the_control_socket_harms_nobody(place):
    start(place, fake_children.node(place.paths))
    for line in (
        b"garbage\n",
        b"[]\n",
        b'{"op": 1}\n',
        b'{"op": "apply"}\n',
        b'{"op": "apply", "children": [{}]}\n',
        b"{}\n",
    ):
        with socket.socket(socket.AF_UNIX) as caller:
            caller.settimeout(2)
            caller.connect(str(place.paths.control_socket))
            caller.sendall(line)
            reply = caller.recv(4096)
            assert reply == b"" or json.loads(reply)["error"]["code"] == "bad_request"
    assert [child["name"] for child in place.children()] == ["node-n1"]
