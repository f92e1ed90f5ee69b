"""Instances with a real sshd and a real onstart behind them."""

from __future__ import annotations

import socket
import subprocess

import pytest

from tests.marketplace.conftest import Api, unexplained
from tests.support.marketplace.market import Market
from tests.support.marketplace.sandbox import sandboxes
from tests.support.marketplace.server import MarketServer
from tests.support.sshd import make_key
from tests.support.system import program, wait_until

INSTALL = "install Debian's package openssh-client"
ONSTART = """
echo "start of $CONTAINER_ID on $PUBLIC_IPADDR:$VAST_TCP_PORT_22 wish=$WISH"
echo "LLMHOST-HOSTKEY $(cat "$LLMHOST_ROOT/etc/ssh/ssh_host_ed25519_key.pub")"
echo again >>"$HOME/starts"
(setsid sleep 600 &)
"""
# The container ends itself with its own key, as the dead-man switch does.
SUICIDE = """
if [ -e "$HOME/second" ]; then
  printf 'header = "Authorization: Bearer %s"\\n' "$CONTAINER_API_KEY" |
    curl -sS -K - -X DELETE "$VAST_URL/api/v0/instances/$CONTAINER_ID/"
fi
touch "$HOME/second"
"""


@pytest.fixture
def server(short_tmp):
    """Every instance is up in a fraction of a second."""
    machines = sandboxes(short_tmp / "m", environment={"FROM_TEST": "1"}, programs={"hello": "#!/bin/sh\necho fake $1\n"})
    market = Market(machines=machines, limits=False, pace=0.005)
    with MarketServer(market) as server:
        yield server
    assert market.trouble == []
    assert not list((short_tmp / "m").glob("*"))
    assert unexplained(market) == []


@pytest.fixture
def key(short_tmp, api):
    """A private key whose public half the account has."""
    key = make_key(short_tmp / "key")
    api.post("/api/v0/ssh/", json={"ssh_key": key.with_suffix(".pub").read_text()})
    return key


@pytest.fixture
def running(api, key):
    """Rents and waits until there are ports."""

    def rent(**wish):
        number = api.rent(onstart=ONSTART, env={"WISH": "yes"}, **wish)
        row = wait_until(lambda: (row := api.row(number))["ports"] and row, "the instance to run", 30)
        assert row["actual_status"] == "running"
        return number, row

    return rent


def direct(row):
    return row["public_ipaddr"].strip(), int(row["ports"]["22/tcp"][0]["HostPort"])


def proxy(row):
    return row["ssh_host"], row["ssh_port"]


def ssh(key, address, command="echo in", known=None, timeout=10):
    """Exit code, output and errors of a real ssh, as the current user."""
    checking = ["-o", f"UserKnownHostsFile={known or '/dev/null'}", "-o", f"StrictHostKeyChecking={'yes' if known else 'no'}"]
    options = ["-F", "none", "-i", key, "-p", address[1], "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=3"]
    line = [program("ssh", INSTALL), *map(str, options), *checking, address[0], command]
    run = subprocess.run(line, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL, check=False)
    return run.returncode, run.stdout, run.stderr


def test_a_login_by_both_ways(server, running, key):
    number, row = running()
    for address in (direct(row), proxy(row)):
        code, out, err = ssh(key, address, 'echo "$HOME"; hello you; echo "${WISH:-none} ${CONTAINER_API_KEY:-none} $FROM_TEST"')
        assert code == 0, err
        home, fake, seen = out.splitlines()
        assert home == str(server.control.instance(number).machine.root)
        assert (fake, seen) == ("fake you", "none none 1")


def test_the_card_of_the_offer(running, key):
    _, row = running()
    query = "nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader,nounits"
    assert ssh(key, direct(row), query)[1] == f"NVIDIA GeForce RTX 4090, {row['driver_version']}, 24564\n"


def test_a_card_that_is_lost(server, running, key):
    number, row = running()
    server.control.do(number, "lose_gpu")
    code, out, _ = ssh(key, direct(row), "nvidia-smi")
    assert code != 0
    assert "Unknown Error" in out


def test_the_log_has_what_onstart_printed_and_the_host_key(server, api, running):
    number, row = running()
    server.control.set(log_refusals=0)

    def log(**wish):
        url = api.put(f"/api/v0/instances/request_logs/{number}/", json=wish).json()["result_url"]
        return api.get(url).text

    wait_until(lambda: "LLMHOST-HOSTKEY" in log(), "the host key in the log", 20)
    assert f"start of {number} on 127.0.0.1:{direct(row)[1]} wish=yes" in log()
    line = log(filter="LLMHOST-HOSTKEY").split()
    assert " ".join(line[1:3]) == server.control.instance(number).machine.sshd.host_key


def test_host_keys_differ_and_a_pinned_one_is_missed(server, running, key, short_tmp):
    number, row = running()
    machine = server.control.instance(number).machine
    _, other = running()
    known = short_tmp / "known"
    known.write_text("".join(f"[{host}]:{port} {machine.sshd.host_key}\n" for host, port in (direct(row), direct(other))))
    assert ssh(key, direct(row), known=known)[0] == 0
    assert "Host key verification failed" in ssh(key, direct(other), known=known)[2]
    server.control.hurt(number, "wrong_host_key")
    assert "Host key verification failed" in ssh(key, direct(row), known=known)[2]


def test_onstart_runs_at_every_start_and_its_processes_end_with_the_container(server, api, running, key):
    number, row = running()
    machine = server.control.instance(number).machine
    wait_until(lambda: "sleep 600" in machine.processes().values(), "what onstart left running", 20)
    api.put(f"/api/v0/instances/{number}/", json={"state": "stopped"})
    wait_until(lambda: api.row(number)["actual_status"] == "exited", "the stop", 20)
    server.control.settle()
    assert machine.processes() == {}
    assert ssh(key, direct(row) if row["ports"] else proxy(row))[0] == 255
    api.put(f"/api/v0/instances/{number}/", json={"state": "running"})
    row = wait_until(lambda: (row := api.row(number))["ports"] and row, "the second start", 30)
    wait_until(lambda: ssh(key, direct(row), 'cat "$HOME/starts"')[1] == "again\nagain\n", "the second run of onstart", 20)


def test_recycled_it_has_a_new_disk_and_a_new_host_key(server, api, running, key):
    number, row = running()
    machine = server.control.instance(number).machine
    old = machine.sshd.host_key
    ssh(key, direct(row), 'touch "$HOME/mine"')
    api.put(f"/api/v0/instances/recycle/{number}/", json={})
    row = wait_until(lambda: machine.starts == 2 and (row := api.row(number))["ports"] and row, "the new container", 30)
    assert ssh(key, direct(row), 'ls "$HOME"')[1].split() == ["onstart.sh", "starts"]
    assert machine.sshd.host_key != old


def test_destroyed_nothing_is_left(server, api, running, key):
    number, row = running()
    machine = server.control.instance(number).machine
    session = subprocess.Popen(
        [program("ssh", INSTALL), "-F", "none", "-i", str(key), "-p", str(direct(row)[1]), "-o", "StrictHostKeyChecking=no"]
        + ["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", direct(row)[0], "echo in; setsid sleep 500"],
        stdout=subprocess.PIPE,
    )
    assert session.stdout is not None
    with session:
        assert session.stdout.readline() == b"in\n"
        api.delete(f"/api/v0/instances/{number}/")
        server.control.settle()
        assert session.wait(20) == 255
    assert machine.processes() == {}
    assert not machine.folder.exists()
    with pytest.raises(OSError, match="refused"), socket.create_connection(direct(row), 2):
        pass


def test_a_container_destroys_itself_with_its_own_key(server, api, key):
    number = api.rent(onstart=SUICIDE)
    wait_until(lambda: (api.row(number) or {}).get("ports"), "the start", 30)
    machine = server.control.instance(number).machine
    wait_until(lambda: (machine.root / "second").exists(), "the first run", 20)
    api.put(f"/api/v0/instances/reboot/{number}/", json={})
    wait_until(lambda: not server.control.billing_now(), "the end of the instance", 30)
    [call] = server.control.requests("destroy")
    assert call.identity == f"container {number}"


@pytest.mark.parametrize(("broken", "sound"), [("direct", "proxy"), ("proxy", "direct")])
def test_one_way_broken(server, running, key, broken, sound):
    number, row = running()
    ways = {"direct": direct(row), "proxy": proxy(row)}
    server.control.hurt(number, "refuse", broken)
    assert "Connection refused" in ssh(key, ways[broken])[2]
    assert ssh(key, ways[sound])[0] == 0
    server.control.hurt(number, "ok", broken)
    assert ssh(key, ways[broken])[0] == 0


def test_accepts_and_hangs(server, running, key):
    number, row = running()
    server.control.hurt(number, "hang")
    with socket.create_connection(direct(row), 5) as connection:
        connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        server.control.hurt(number, "ok")
        connection.settimeout(10)
        assert connection.recv(4) == b"SSH-"


def test_drops(server, running, key):
    number, row = running()
    server.control.hurt(number, "drop_after", "direct", seconds=0.5)
    code, out, _ = ssh(key, direct(row), "echo in; sleep 30")
    assert code == 255
    assert ssh(key, proxy(row))[0] == 0


def test_the_address_changes(server, api, running, key):
    number, before = running()
    server.control.do(number, "move")
    after = api.row(number)
    assert direct(before)[0] != direct(after)[0]
    assert ssh(key, direct(before))[0] == 255
    assert ssh(key, direct(after))[:2] == (0, "in\n")


def test_a_key_takes_a_while(server, api, key):
    server.control.set(key_lag_s=100_000)
    number = api.rent()
    row = wait_until(lambda: (row := api.row(number))["ports"] and row, "the instance to run", 30)
    assert "Permission denied" in ssh(key, direct(row))[2]
    server.control.set(key_lag_s=0)
    api.post(f"/api/v0/instances/{number}/ssh/", json={"ssh_key": key.with_suffix(".pub").read_text() + "x"})
    wait_until(lambda: ssh(key, direct(row))[0] == 0, "the key to be let in", 20)


def test_it_runs_and_never_lets_anybody_in(server, api, key):
    server.control.plan("never_ssh")
    number = api.rent()
    row = wait_until(lambda: (row := api.row(number))["ports"] and row, "the instance to run", 30)
    for address in (direct(row), proxy(row)):
        assert "Connection refused" in ssh(key, address)[2]


def test_commands_stay_inside(server, api, running):
    number, _ = running()
    server.control.set(log_refusals=0)

    def run(command):
        url = api.put(f"/api/v0/instances/command/{number}/", json={"command": command}).json()["result_url"]
        return api.get(url).text

    assert "onstart.sh" in run("ls /root")
    assert "No such file" in run("ls ../..")
    assert "No such file" in run("rm -r /root/../../..")
    run("rm /root/onstart.sh")
    assert "onstart.sh" not in run("ls")


def test_many_at_once(server, key):
    with Api(server) as api:
        numbers = [api.rent(onstart=ONSTART) for _ in range(4)]
        wait_until(lambda: all(row["ports"] for row in api.rows()), "all of them", 60)
        rows = {row["id"]: row for row in api.rows()}
    assert len({direct(rows[each]) for each in numbers} | {proxy(rows[each]) for each in numbers}) == 8
    assert all(ssh(key, direct(rows[each]))[0] == 0 for each in numbers)
