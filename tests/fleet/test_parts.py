"""Pure parts of the supervisor."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from llmhost.core.gpu import GpuFigures, parse
from llmhost.core.ledger import GatewayRecord, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.server_config import ServerConfig
from llmhost.core.settings import load_settings
from llmhost.fleet.desired import server_argv, server_settings, specs_of
from llmhost.supervisor import lock
from llmhost.supervisor.backoff import BackOff
from llmhost.supervisor.port_owner import port_owner
from llmhost.supervisor.process import alive, birth_of, booted_at, command_of, describe_exit, end_orphans
from llmhost.supervisor.spec import ChildSpec, Listen, Live, Probe
from tests.support.system import wait_until


def test_the_back_off_doubles_up_to_its_cap_and_is_forgotten_after_a_minute_up():
    back_off = BackOff()
    assert [back_off.next_delay(0.1) for _ in range(9)] == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert back_off.hopeless
    assert back_off.next_delay(61) == 0.25
    assert not back_off.hopeless


def test_the_back_off_stays_at_its_cap_however_long_a_child_crashes():
    back_off = BackOff()
    assert {back_off.next_delay(0.1) for _ in range(3000)} - {0.25, 0.5, 1, 2, 4, 8, 16} == {30}


def test_five_short_runs_in_a_row_are_hopeless():
    back_off = BackOff()
    assert [(back_off.next_delay(1), back_off.hopeless)[1] for _ in range(5)] == [False] * 4 + [True]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        ("NVIDIA GeForce RTX 4090, 83, 22100, 24564\n", GpuFigures("RTX 4090", 0.83, 22100, 24564)),
        ("NVIDIA A100, 10, 100, 81920\nNVIDIA A100, 30, 300, 81920\n", GpuFigures("2x A100", 0.2, 400, 163840)),
        ("NVIDIA T1000, [N/A], 5, 4096\n", GpuFigures("T1000", None, 5, 4096)),
        ("No devices were found\n", None),
        ("", None),
    ],
)
def test_gpu_figures(shown, expected):
    assert parse(shown) == expected


def test_an_exit_is_described():
    assert describe_exit(1, 0.24) == "exited with code 1 after 0.2 s"
    assert describe_exit(-signal.SIGKILL, 12) == "killed by SIGKILL after 12.0 s"


def test_a_zombie_does_not_count_as_alive():
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not alive(process.pid)
    process.wait()


def test_the_owner_of_a_port_is_named():
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert port_owner(server.getsockname()[1]).endswith(f"(pid {os.getpid()})")


def test_the_lock_goes_to_one_and_its_text_survives_a_crash(tmp_path):
    path = tmp_path / "lock"
    held = lock.try_lock(path)
    assert lock.try_lock(path) is None
    assert lock.is_locked(path)
    lock.write_holder(held, lock.Holder(42, "1.2.3", 1000.5, (7, 8)))
    os.close(held)
    assert not lock.is_locked(path)
    assert lock.read_holder(path) == lock.Holder(42, "1.2.3", 1000.5, (7, 8))
    again = lock.try_lock(path)
    lock.remove(path, again)
    assert not path.exists()


@pytest.fixture
def stranger():
    """Somebody else's process, in a group of its own, that happens to have our name in its command line."""
    program = [sys.executable, "-c", "import time; time.sleep(60)", "llmhost.proxy", "/home/me/llmhost/notes.txt"]
    process = subprocess.Popen(program, process_group=0)
    wait_until(lambda: "llmhost.proxy" in command_of(process.pid), "the stranger to be there")
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def orphan():
    """A process of ours that does not end by itself."""
    program = [sys.executable, "-P", "-m", "llmhost.supervisor.lifeline", "--", "sleep", "60"]
    process = subprocess.Popen(program, process_group=0, stdin=subprocess.PIPE)
    wait_until(lambda: "llmhost.supervisor.lifeline" in command_of(process.pid), "the program to be there")
    yield process
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.stdin.close()
    process.wait()


def test_a_stranger_with_the_number_of_an_orphan_is_left_alone(stranger):
    assert end_orphans([stranger.pid], {}, 0.1) == []
    assert stranger.poll() is None


def test_a_process_of_ours_that_was_born_later_is_left_alone(orphan):
    assert end_orphans([orphan.pid], {orphan.pid: "long ago"}, 0.1) == []
    assert orphan.poll() is None


@pytest.mark.parametrize("known", [True, False], ids=["birth known", "lock of an older version"])
def test_an_orphan_of_ours_is_ended(orphan, known):
    births = {orphan.pid: birth_of(orphan.pid)} if known else {}
    # It is a child of this test, which collects it only later: a zombie does not count.
    assert end_orphans([orphan.pid], births, 0.1) == []
    assert not alive(orphan.pid)


def test_the_lock_keeps_who_is_meant_by_each_number(tmp_path):
    path = tmp_path / "lock"
    held = lock.try_lock(path)
    holder = lock.Holder(42, "1.2.3", time.time(), (7,), {42: "100", 7: "200"})
    lock.write_holder(held, holder)
    os.close(held)
    assert lock.read_holder(path) == holder
    assert not lock.before_boot(holder)
    assert lock.before_boot(lock.Holder(42, "1.2.3", booted_at() - 3600))


@pytest.mark.parametrize("text", ["", "garbage", "[]", '{"pid": "x"}', '"a"'])
def test_an_unreadable_lock_text_is_no_holder(tmp_path, text):
    path = tmp_path / "lock"
    path.write_text(text)
    assert lock.read_holder(path) is None


def test_a_spec_survives_the_control_socket():
    listen, probe, live = Listen(8001, True), Probe("/x", None, "t"), Live("/nodes", {"nodes": [{"token": "t"}]})
    spec = ChildSpec("gateway", ("a", "b"), {"token": "t"}, {"A": "1"}, listen, probe, ("/s",), 2.0, live)
    assert ChildSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec
    assert "'t'" not in repr(spec)


@pytest.fixture
def specs(tmp_path):
    paths = Paths(tmp_path, tmp_path, tmp_path)
    settings = load_settings({"redis_url": "redis://:hidden@127.0.0.1:6379"}, environ={}, cwd=tmp_path)
    started = {
        "ollama_url": "http://127.0.0.1:11434",
        "ollama_bin": "/usr/bin/ollama",
        "ollama_env": {"OLLAMA_HOST": "127.0.0.1:11434"},
    }
    node = NodeRecord("n1", "default", "local", "ollama", "m:1", 65_536, "node-token", started)
    return {
        spec.name: spec
        for spec in specs_of([node], GatewayRecord(8001, False, server_settings(settings)), paths, "gateway-token")
    }


def test_children_are_started_in_the_order_they_need_each_other(specs):
    assert list(specs) == ["ollama", "node-n1", "gateway"]
    assert specs["ollama"].argv[-4:] == ("llmhost.supervisor.lifeline", "--", "/usr/bin/ollama", "serve")
    assert specs["node-n1"].argv == specs["gateway"].argv == server_argv()


def test_the_servers_are_told_what_to_be_on_standard_input_only(specs):
    node = ServerConfig.from_json(json.dumps(specs["node-n1"].config))
    gateway = ServerConfig.from_json(json.dumps({**specs["gateway"].config, **specs["gateway"].live.body}))
    assert (node.backend.kind, node.backend.url, node.backend.model, node.backend.context) == (
        *("ollama", "http://127.0.0.1:11434", "m:1", 65_536),
    )
    assert gateway.backend.kind == "fleet"
    assert [(one.id, one.url, one.token) for one in gateway.nodes] == [("n1", f"unix:{node.socket}", "node-token")]
    assert (node.token, gateway.token) == ("node-token", "gateway-token")
    assert node.lifeline
    assert gateway.lifeline
    assert not node.cache.enabled
    assert gateway.cache.redis.url == "redis://:hidden@127.0.0.1:6379"
    for spec in specs.values():
        visible = json.dumps([spec.argv, spec.env]) + repr(spec)
        assert not any(secret in visible for secret in ("node-token", "gateway-token", "hidden"))
