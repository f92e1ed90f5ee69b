"""The ways in, and how they break."""

from __future__ import annotations

import socket

import pytest

from tests.marketplace.machines.logins import direct, proxy, ssh
from tests.support.system import wait_until


def test_host_keys_differ_and_a_pinned_one_is_missed(server, running, key, short_tmp):
    number, row = running()
    machine = server.control.instance(number).machine
    _, other = running()
    known = short_tmp / "known"
    known.write_text(
        "".join(f"[{host}]:{port} {machine.sshd.host_key}\n" for host, port in (direct(row), direct(other)))
    )
    assert ssh(key, direct(row), known=known)[0] == 0
    assert "Host key verification failed" in ssh(key, direct(other), known=known)[2]
    server.control.hurt(number, "wrong_host_key")
    assert "Host key verification failed" in ssh(key, direct(row), known=known)[2]


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
    code = ssh(key, direct(row), "echo in; sleep 30")[0]
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
