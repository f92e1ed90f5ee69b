"""The commands for machines reached over SSH, as a user types them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from llmhost.cli.commands.ssh import split
from llmhost.cli.views.tunnel import change_text, link_text
from llmhost.cli.views.up import does, machine_text
from tests.support.sshd import Sshd
from tests.support.stack import Stack
from tests.support.system import processes_touching, wait_until

QUICK = {
    "LLMHOST_TUNNEL_ECHO_EVERY": "0.5",
    "LLMHOST_TUNNEL_BACKOFF_FIRST": "0.1",
    "LLMHOST_TUNNEL_LOGIN_EVERY": "0.1",
    "LLMHOST_TUNNEL_PROBE_EVERY": "0.3",
    "LLMHOST_TUNNEL_DRAIN": "1",
}


@pytest.fixture(scope="module")
def site():
    """A stack with one node that is up, and its machine. Tests may hurt it, and must leave it serving."""
    stack = Stack(LLMHOST_BACKEND="rehearsal", XDG_CACHE_HOME=os.environ["XDG_CACHE_HOME"], **QUICK)
    with ExitStack() as ending:
        ending.callback(stack.remove)
        machine = ending.enter_context(Sshd(stack.root / "m1"))
        stack.up_ssh(machine)
        yield stack, machine
        stack.llmhost("down", "--yes", "--force")


def test_what_up_says_on_the_way(site):
    stack, machine = site
    shown = stack.llmhost("up", "--yes").expect()
    said = " ".join(shown.stderr.split())
    assert "look after n1; what was asked for is there (what does not run is started, an older server replaced)" in said
    assert f"n1 {machine.target}: no GPU" in " ".join(shown.stderr.split())
    assert "nothing changed" in shown.stderr
    assert "Next:  llmhost claude" in shown.stdout


def test_status_has_a_row_for_the_link(site):
    stack, machine = site
    shown = stack.llmhost("status").expect().stdout
    assert re.search(r"│ n1 +up +openssh +\d\d:\d\d:\d\d +[\d.]+ ms +\d", shown)
    assert str(machine.target) in shown


def test_a_command_on_the_node_with_its_exit_code_and_its_words(site):
    stack, machine = site
    assert stack.llmhost("ssh", "n1", "--", "echo", "a  b", "*").expect().stdout == "a  b *\n"
    assert stack.llmhost("ssh", "--", "cd / && pwd").expect().stdout == "/\n"
    stack.llmhost("ssh", "n1", "--", "sh", "-c", "exit 7").expect(7)
    assert stack.llmhost("ssh", "n1", "--", "cat", stdin="through").expect().stdout == "through"
    assert str(machine.user_home) in stack.llmhost("ssh", "n1", "--", "pwd").expect().stdout


def test_a_command_on_the_node_as_one_document(site):
    stack, _ = site
    done = stack.llmhost("--json", "ssh", "n1", "--", "echo out; echo err >&2; exit 3").expect(3)
    assert done.json["data"] == {"node": "n1", "exit_code": 3, "stdout": "out\n", "stderr": "err\n"}
    assert stack.llmhost("--json", "ssh", "n1").expect(2).json["errors"][0]["code"] == "usage"


def test_a_command_on_the_node_without_an_ssh_program(site):
    stack, _ = site
    path = {"PATH": "/nowhere"}
    done = stack.llmhost("ssh", "n1", "--", "echo out; echo err >&2; exit 3", **path).expect(3)
    assert (done.stdout, done.stderr) == ("out\n", "err\n")
    refused = stack.llmhost("--json", "ssh", "--", **path)
    assert refused.exit_code == 2


def test_a_node_that_is_not_there(site):
    stack, _ = site
    for command in ("ssh", "restart"):
        assert stack.llmhost("--json", command, "n9").expect(2).json["errors"][0]["code"] == "no_such_node"


def test_restart_gives_another_process_and_waits_until_it_answers(site):
    stack, machine = site
    before = _proxies(machine)
    data = stack.json("restart", "n1", "--proxy")
    assert (data["restarted"], data["node"]["id"]) == (["proxy"], "n1")
    assert not set(_proxies(machine)) & set(before)
    wait_until(lambda: stack.status()["fleet"]["nodes"][0]["state"] == "ready", "the node to be ready", 20)
    assert stack.llmhost("--json", "restart", "n1", "--ollama").expect(1).json["errors"][0]["code"] == "not_ours"


def _proxies(machine):
    return [pid for pid, line in processes_touching(machine.user_home).items() if "-m llmhost.proxy" in line]


def test_logs_of_the_node_and_of_its_link(site):
    stack, _ = site
    lines = stack.json("logs", "n1")["lines"]
    assert {line["source"] for line in lines} == {"proxy", "tunnel"}
    assert {line["node"] for line in lines} == {"n1"}
    only = stack.json("logs", "n1", "--source", "proxy", "--lines", "3")["lines"]
    assert [line["source"] for line in only] == ["proxy"] * len(only)
    assert 0 < len(only) <= 3


def test_logs_are_followed_on_the_node(site):
    stack, _ = site
    argv = stack.argv("--json", "logs", "n1", "--source", "proxy", "--follow", "--lines", "0")
    with subprocess.Popen(argv, env=stack.env, cwd=stack.work, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            with ThreadPoolExecutor(1) as pool:
                first = pool.submit(process.stdout.readline)
                while not first.done():
                    stack.json("restart", "n1", "--proxy")
                assert json.loads(first.result())["source"] == "proxy"
        finally:
            process.kill()


def test_an_unreachable_node_is_a_warning_and_the_rest_is_shown(site):
    stack, machine = site
    machine.stop()
    try:
        done = stack.llmhost("--json", "logs").expect()
        assert {"gateway", "tunnel"} <= {line["source"] for line in done.json["data"]["lines"]}
        assert "the logs of n1 cannot be read" in done.json["warnings"][0]
    finally:
        machine.start()


def test_a_link_that_is_down_is_an_error_of_the_tunnel_and_comes_back(site):
    stack, machine = site
    machine.stop()
    try:
        wait_until(lambda: _link(stack)["state"] == "reconnecting", "the loss to be noticed", 20)
        done = stack.llmhost("--json", "tunnel").expect(7)
        (error,) = done.json["errors"]
        assert (error["code"], str(machine.port) in error["message"]) == ("connection_refused", True)
        link = _link(stack)
        assert link["reason"] == "connection_refused"
    finally:
        machine.start()
    assert stack.json("tunnel")["tunnels"][0]["state"] == "up"


def _link(stack):
    return stack.status()["fleet"]["nodes"][0]["tunnel"]


def test_twenty_tunnels_at_once_are_one(site):
    stack, _ = site
    stack.llmhost("tunnel", "--stop").expect()
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda _: stack.json("tunnel"), range(20)))
    assert {one["tunnels"][0]["state"] for one in found} == {"up"}
    assert len({one["gateway"]["url"] for one in found}) == 1
    running = list(processes_touching(stack.runtime_dir).values())
    assert sum("llmhost.tunnel.supervisor" in line for line in running) == 1
    assert sum(line.startswith("ssh ") for line in running) == 1


def test_in_the_foreground_every_change_is_a_line_until_ctrl_c(site):
    stack, machine = site
    argv = stack.argv("--json", "tunnel", "--foreground")
    with subprocess.Popen(argv, env=stack.env, cwd=stack.work, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            first = [json.loads(process.stdout.readline()) for _ in range(2)]
            assert {(one["name"], one["state"]) for one in first} == {("n1", "up"), ("gateway", "up")}
            machine.kill_sessions()
            change = json.loads(process.stdout.readline())
            assert (change["name"], change["state"] in ("reconnecting", "up")) == ("n1", True)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()
    assert stack.json("tunnel", "--status")["tunnels"][0]["state"] == "up", "it was open before, so it stays open"


def test_another_host_key_is_trusted_only_when_it_was_said_so(site):
    stack, machine = site
    old = machine.host_key_fingerprint
    machine.rekey()
    wait_until(lambda: _link(stack)["reason"] == "host_key_changed", "the other key to be seen", 20)
    failed = stack.llmhost("--json", "tunnel").expect(4)
    assert (failed.json["errors"][0]["code"], failed.json["errors"][0]["hint"]) == (
        "host_key_changed",
        "If the machine was set up anew, trust its new key: llmhost tunnel --repin n1",
    )
    asked = stack.llmhost("tunnel", "--repin", "n1").expect(2)
    assert old in asked.stderr
    assert machine.host_key_fingerprint in asked.stderr
    data = stack.json("tunnel", "--repin", "n1", "--yes")["repinned"]
    assert (data["old"], data["new"], data["changed"]) == ([old], machine.host_key_fingerprint, True)
    wait_until(lambda: _link(stack)["state"] == "up", "the link", 20)
    assert stack.json("tunnel", "--repin", "n1", "--yes")["repinned"]["changed"] is False


def test_doctor_looks_at_the_link(site):
    stack, machine = site
    checks = {check["name"]: check for check in stack.llmhost("--json", "doctor").json["data"]["checks"]}
    assert checks["ssh"]["detail"].startswith("OpenSSH_")
    assert checks["link n1"]["state"] == "ok"
    assert checks["ollama"]["state"] == "ok", "an Ollama is for the node's machine"
    assert str(machine.target) in checks["link n1"]["detail"]


@pytest.mark.parametrize(
    "at", ["looking at", "copying the server to", "waiting until the node's server", "asking one real"]
)
def test_a_down_interrupts_an_up_and_nothing_stays(at):
    stack = Stack(LLMHOST_BACKEND="rehearsal", XDG_CACHE_HOME=os.environ["XDG_CACHE_HOME"], **QUICK)
    with ExitStack() as ending:
        ending.callback(stack.remove)
        machine = ending.enter_context(Sshd(stack.root / "m1"))
        where = ("--host", str(machine.target), "--identity", str(machine.client_key))
        argv = stack.argv("up", "--provider", "ssh", "--yes", *where)
        with subprocess.Popen(argv, env=stack.env, cwd=stack.work, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert any(at in line for line in process.stderr), "the phase is reached"
            down = stack.llmhost("down").expect()
            said = process.stderr.read()
            process.wait(60)
        assert stack.status()["fleet"]["nodes"] == []
        assert not list(machine.user_home.glob(".llmhost/nodes/*"))
        assert process.returncode in (0, 130), said  # it may just have been through
        assert "Traceback" not in said + down.stderr


def test_the_words_of_ssh_are_told_from_the_node():
    assert split(["--", "ls", "-l"], "ls", ["-l"]) == (None, ("ls", "-l"))
    assert split(["n1", "--", "ls"], "n1", ["ls"]) == ("n1", ("ls",))
    assert split(["n1"], "n1", None) == ("n1", ())
    assert split([], None, None) == (None, ())


def test_a_link_in_a_line():
    link = {"id": "n1", "host": "me@gpu", "transport": "openssh", "state": "up", "rtt_ms": 81.23, "reconnects": 1}
    assert link_text(link) == "n1  up  me@gpu  openssh  81.2 ms  1 reconnect"
    down = {**link, "state": "reconnecting", "rtt_ms": None, "reconnects": 0, "reason_text": "it is away"}
    assert link_text(down) == "n1  reconnecting  me@gpu  openssh  it is away"
    assert change_text({"time": None, "name": "n1", "state": "up", "reason": None}) == "– n1 up"


def test_a_plan_over_ssh_in_words():
    node = {"id": "n2", "host": "me@gpu", "gpu": "RTX 4090", "vram_total_mb": 24564, "disk_free_mb": None}
    new = {**node, "action": "create", "first_key": "SHA256:abc"}
    plan = {"action": "extend", "node": "n1, n2", "nodes": [{**node, "id": "n1", "action": "keep"}, new], "leaving": []}
    assert does(plan) == "add n2 to the fleet"
    assert machine_text(new) == (
        "n2 me@gpu: RTX 4090 with 24,564 MiB, new; its host key is SHA256:abc, seen for the first time and trusted from now on"
    )
