"""From a rented instance to a login on a real sshd."""

from __future__ import annotations

import threading

import pytest

from llmhost.core.errors import Interrupted
from llmhost.fleet.links import pins_of
from llmhost.fleet.rented.addresses import moved, targets
from llmhost.fleet.rented.boot import Booted
from tests.support.system import wait_until


def host_key(shop, rental):
    return tuple(shop.control.instance(rental.instance_id).machine.sshd.host_key.split()[:2])


def test_it_is_entered_directly_and_its_host_key_comes_from_the_log(shop):
    rental = shop.rent()
    booted = shop.boot(rental)
    machine = shop.control.instance(rental.instance_id).machine
    assert (booted.target.host, booted.target.port) == machine.direct
    assert booted.host_key == "log"
    assert pins_of(shop.place.paths).keys(booted.alias) == [host_key(shop, rental)]
    assert booted.session.run('echo "$HOME"').out.strip() == str(machine.root)
    assert list(dict.fromkeys(shop.told.phases)) == ["booting", "ssh"]
    assert shop.kept(rental).phase == "ssh"
    assert shop.note(rental).boot_s > 0
    assert shop.note(rental).failed_at is None
    assert shop.told.notes == []


def test_the_proxy_where_the_direct_way_is_dead(shop):
    shop.use(vast_ssh_s=9.0)
    rental = shop.rent()
    shop.running(rental)
    shop.control.hurt(rental.instance_id, "refuse", "direct")
    booted = shop.boot(rental)
    assert (booted.target.host, booted.target.port) == shop.control.instance(rental.instance_id).machine.proxy
    assert booted.session.run("true").code == 0


def test_the_direct_way_where_the_proxy_is_dead(shop):
    rental = shop.rent()
    shop.running(rental)
    shop.control.hurt(rental.instance_id, "refuse", "proxy")
    booted = shop.boot(rental)
    assert (booted.target.host, booted.target.port) == shop.control.instance(rental.instance_id).machine.direct


def test_ports_that_are_not_told_leave_the_proxy(shop):
    rental = shop.rent("ports_null_while_running")
    booted = shop.boot(rental)
    assert booted.instance.direct is None
    assert (booted.target.host, booted.target.port) == shop.control.instance(rental.instance_id).machine.proxy


def test_another_host_key_than_the_one_in_the_log_is_never_logged_in_to(shop):
    rental = shop.rent()
    shop.running(rental)
    machine = shop.control.instance(rental.instance_id).machine
    wait_until(lambda: "LLMHOST-HOSTKEY" in machine.output(), "its host key in the log", 20)
    shop.control.hurt(rental.instance_id, "wrong_host_key")
    error = shop.fails(rental)
    assert (error.code, error.blame) == ("host_key_changed", "host")
    assert shop.note(rental).failed_at is not None
    assert machine.sshd.auth_requests() == 0


def test_without_a_line_in_the_log_the_first_key_is_trusted_and_told(shop):
    shop.use(vast_ssh_s=9.0)
    rental = shop.rent(onstart="true")
    booted = shop.boot(rental)
    assert booted.host_key == "first"
    assert pins_of(shop.place.paths).keys(booted.alias) == [host_key(shop, rental)]
    [note] = shop.told.notes
    assert "trusted: SHA256:" in note


def test_logs_that_never_come_do_not_hold_it_up(shop):
    shop.use(vast_ssh_s=9.0)
    shop.control.set(logs_ready=False)
    assert shop.boot(shop.rent()).host_key == "first"


def test_a_pin_of_an_earlier_machine_of_that_name_is_forgotten(shop):
    rental = shop.rent()
    pins = pins_of(shop.place.paths)
    pins.pin(
        shop.desk.alias(rental), "ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    )
    booted = shop.boot(rental)
    assert pins.keys(booted.alias) == [host_key(shop, rental)]


def test_a_key_the_machine_does_not_know_is_attached_once(shop):
    shop.use(vast_ssh_s=18.0)
    shop.server.market.account.ssh_keys.clear()
    booted = shop.boot(shop.rent())
    assert booted.session.run("true").code == 0
    assert len(shop.control.requests("attach")) == 1


def test_nobody_is_ever_let_in(shop):
    shop.use(vast_ssh_s=7.0)
    shop.control.set(key_lag_s=100_000)
    rental = shop.rent()
    error = shop.fails(rental)
    assert (error.code, error.blame) == ("ssh_refused", "host")
    assert "accepts none of the keys" in error.message


def test_ssh_never_opens(shop):
    shop.use(vast_ssh_s=3.0)
    rental = shop.rent("never_ssh")
    error = shop.fails(rental)
    assert (error.code, error.blame) == ("ssh_unreachable", "host")
    assert "refuses connections" in error.message
    assert "ssh_unreachable" in shop.note(rental).why


def test_a_container_that_exits_and_comes_back_is_waited_for(shop):
    rental = shop.rent()
    shop.running(rental)
    shop.control.status(rental.instance_id, actual_status="exited")
    with shop.booting(rental) as ended:
        wait_until(lambda: "exited" in (shop.kept(rental).detail or ""), "the exit to be told", 20)
        shop.control.status(rental.instance_id, actual_status="running")
    assert isinstance(ended[0], Booted)


def test_it_leaves_while_it_is_being_logged_in_to_and_comes_back(shop):
    rental = shop.rent()
    shop.running(rental)
    shop.control.hurt(rental.instance_id, "refuse")
    with shop.booting(rental) as ended:
        wait_until(lambda: shop.kept(rental).phase == "ssh", "the attempts to log in", 20)
        shop.control.status(rental.instance_id, actual_status="exited")
        wait_until(lambda: shop.kept(rental).phase == "booting", "the way back", 20)
        shop.control.hurt(rental.instance_id, "ok")
        shop.control.status(rental.instance_id, actual_status="running")
    assert isinstance(ended[0], Booted)


def test_an_address_that_changed_is_found_again(shop):
    booted = shop.boot(shop.rent())
    shop.control.do(booted.instance.id, "move")
    [instance] = shop.market.instances()
    target = moved(booted.target, instance)
    assert target is not None
    assert target == targets(instance, booted.target.user)[0]
    again = shop.boot(booted.rental, again=True)
    assert again.target == target


@pytest.mark.parametrize("way", ["hang", "refuse"])
def test_an_interruption_ends_the_attempts_soon(shop, way):
    rental = shop.rent()
    shop.running(rental)
    shop.control.hurt(rental.instance_id, way)
    with shop.booting(rental) as ended:
        wait_until(lambda: shop.kept(rental).phase == "ssh", "the attempts to log in", 20)
        shop.desk.stop.set()
    assert isinstance(ended[0], Interrupted)


def test_several_boot_with_one_look_at_the_market(shop):
    rentals = [shop.rent() for _ in range(3)]
    results: list[Booted] = []
    threads = [threading.Thread(target=lambda one=one: results.append(shop.boot(one))) for one in rentals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(one.rental.node_id for one in results) == ["n1", "n2", "n3"]
    assert {one.host_key for one in results} == {"log"}
    assert shop.control.requests(method="GET", path=r"/api/v0/instances/\d+") == []
