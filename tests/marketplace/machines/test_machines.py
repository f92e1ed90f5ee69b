"""The life of a machine behind an instance."""

from __future__ import annotations

import socket
import subprocess

import pytest

from tests.marketplace.conftest import Api
from tests.marketplace.machines.conftest import ONSTART
from tests.marketplace.machines.logins import direct, proxy, ssh, ssh_command
from tests.support.system import wait_until

HOME = "/root"  # of every container
# The container ends itself with its own key, as the dead-man switch does.
SUICIDE = """
if [ -e "$HOME/second" ]; then
  printf 'header = "Authorization: Bearer %s"\\n' "$CONTAINER_API_KEY" |
    curl -sS -K - -X DELETE "$VAST_URL/api/v0/instances/$CONTAINER_ID/"
fi
touch "$HOME/second"
"""


def test_a_login_by_both_ways(server, running, key):
    number, row = running()
    for address in (direct(row), proxy(row)):
        code, out, err = ssh(
            key, address, 'echo "$HOME"; hello you; echo "${WISH:-none} ${CONTAINER_API_KEY:-none} $FROM_TEST"'
        )
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
    wait_until(
        lambda: ssh(key, direct(row), 'cat "$HOME/starts"')[1] == "again\nagain\n", "the second run of onstart", 20
    )


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
    command = ssh_command(key, direct(row), "(setsid sleep 500 &); echo in; sleep 500")
    session = subprocess.Popen(command, stdout=subprocess.PIPE)
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
    wait_until((machine.root / "second").exists, "the first run", 20)
    api.put(f"/api/v0/instances/reboot/{number}/", json={})
    wait_until(lambda: not server.control.billing_now(), "the end of the instance", 30)
    [call] = server.control.requests("destroy")
    assert call.identity == f"container {number}"


def test_commands_stay_inside(server, api, running):
    number, _ = running()
    server.control.set(log_refusals=0)

    def run(command):
        url = api.put(f"/api/v0/instances/command/{number}/", json={"command": command}).json()["result_url"]
        return api.get(url).text

    assert "onstart.sh" in run(f"ls {HOME}")
    assert "No such file" in run("ls ../..")
    assert "No such file" in run(f"rm -r {HOME}/../../..")
    run(f"rm {HOME}/onstart.sh")
    assert "onstart.sh" not in run("ls")


def test_many_at_once(server, key):
    with Api(server) as api:
        numbers = [api.rent(onstart=ONSTART) for _ in range(4)]
        wait_until(lambda: all(row["ports"] for row in api.rows()), "all of them", 60)
        rows = {row["id"]: row for row in api.rows()}
    assert len({direct(rows[each]) for each in numbers} | {proxy(rows[each]) for each in numbers}) == 8
    assert all(ssh(key, direct(rows[each]))[0] == 0 for each in numbers)
