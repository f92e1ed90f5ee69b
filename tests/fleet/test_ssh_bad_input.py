"""What is wrong with a machine or a key: a code, a sentence and a way out each, no second try, and nothing half installed."""

from __future__ import annotations

import os
import shutil
import socket
import threading

import pytest

from llmhost.core.errors import LlmhostError
from llmhost.fleet.hosts import HostWish, places
from llmhost.fleet.remote import prepared
from tests.fleet.over_ssh import (
    asking,
    bring_up,
    is_clean,
    is_clean_here,
    look,
    nodes_of,
    refused,
    settings_of,
    take_down,
)
from tests.support.sshd import make_key
from tests.support.system import free_port, processes_touching, wait_until
from tests.support.told import Told


def complaint(place, machine, *, identity=None, code, exit_code, **flags):
    """`up` on this machine ends with this code, after one login at the most, and leaves nothing anywhere."""
    error = refused(place, asking(machine.target, identity=identity or machine.client_key), **flags)
    assert (error.code, error.exit_code) == (code, exit_code), error.message
    assert error.hint
    assert machine.connections() <= 1
    assert look(place)["fleet"]["nodes"] == []
    assert processes_touching(place.root) == {}
    assert not list(machine.user_home.rglob("nodes/*/*"))
    return error


def test_a_name_that_does_not_resolve(place):
    error = refused(place, asking("somebody@no-such-host.invalid"))
    assert (error.code, error.exit_code) == ("name_unresolved", 5)
    assert "no-such-host.invalid" in error.message
    assert processes_touching(place.root) == {}


def test_nobody_listens(place):
    error = refused(place, asking(f"somebody@127.0.0.1:{free_port()}"))
    assert (error.code, error.exit_code) == ("connection_refused", 5)


def test_somebody_listens_and_says_nothing(place):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"somebody@127.0.0.1:{silent.getsockname()[1]}"
        error = refused(place, asking(host), node_connect_timeout_s=0.5)
    assert (error.code, error.exit_code) == ("connect_timeout", 5)


def test_no_ssh_server(place):
    with socket.create_server(("127.0.0.1", 0)) as web:
        threading.Thread(target=_answer_as_a_web_server, args=(web,), daemon=True).start()
        error = refused(place, asking(f"somebody@127.0.0.1:{web.getsockname()[1]}"))
    assert (error.code, error.exit_code) == ("not_ssh", 5)


def _answer_as_a_web_server(server):
    connection, _ = server.accept()
    with connection:
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.recv(1000)


def test_passwords_only(place, machines):
    complaint(place, machines(passwords_only=True), code="password_only", exit_code=4)


def test_a_key_that_is_not_let_in(place, machine):
    machine.authorize_nobody()
    complaint(place, machine, code="auth_refused", exit_code=4)


def test_without_a_key_named_our_own_is_offered_and_the_way_to_let_it_in_told(place, machine):
    error = refused(place, asking(machine.target))
    assert error.code == "auth_refused"
    assert f"{place.paths.state_dir / 'keys' / 'id_ed25519'}.pub" in error.hint
    machine.authorize((place.paths.state_dir / "keys" / "id_ed25519.pub").read_text())
    with prepared(asking(machine.target), settings_of(place), place.paths, Told()) as job:
        assert job.plan.action == "create"


def test_a_key_that_cannot_be_read(place, machine):
    error = complaint(place, machine, identity=place.root / "missing", code="key_unreadable", exit_code=4)
    assert "missing" in error.message
    assert machine.connections() == 0


def test_a_locked_key(place, machine):
    locked = make_key(place.root / "locked", passphrase="secret")
    error = complaint(place, machine, identity=locked, code="key_locked", exit_code=4)
    assert f"ssh-add {locked}" in error.hint
    assert machine.connections() == 0


def test_another_host_key(place, machine):
    bring_up(place, machine, gateway_port=free_port())
    machine.rekey()
    wait_until(lambda: nodes_of(place)["n1"]["tunnel"]["state"] == "failed", "the link to give up", 20)
    node = nodes_of(place)["n1"]
    assert (node["state"], node["tunnel"]["reason"]) == ("unreachable", "host_key_changed")
    assert "llmhost tunnel --repin n1" in [one["command"] for one in look(place)["advice"]]
    error = refused(place, asking())
    assert (error.code, error.exit_code) == ("host_key_changed", 4)
    assert "llmhost down n1 --force" in error.hint
    assert take_down(place, force=True).exit_code == 0


def test_no_python(place, machines):
    tools = place.root / "tools"
    tools.mkdir()
    for name in (
        "sh",
        "bash",
        "cat",
        "uname",
        "df",
        "id",
        "printf",
        "dirname",
        "tr",
        "sed",
        "ls",
        "rm",
        "mkdir",
        "head",
        "test",
        "env",
    ):
        if found := shutil.which(name):
            (tools / name).symlink_to(found)
    machine = machines(environment={"PATH": str(tools)})
    error = complaint(place, machine, code="no_python", exit_code=1)
    assert "3.11" in error.message + error.hint


def test_a_home_that_cannot_be_written(place, machines):
    complaint(place, machines(read_only_home=True), code="home_read_only", exit_code=1)


def test_a_shell_that_talks(place, machines):
    machine = machines(prints='*** Welcome to the cluster ***\n{"no": "json"}')
    bring_up(place, machine, gateway_port=free_port())
    assert nodes_of(place)["n1"]["state"] == "ready"
    assert take_down(place).exit_code == 0
    assert is_clean(machine)


def test_no_sftp_is_no_hindrance(place, machines):
    machine = machines(sftp=False)
    bring_up(place, machine, gateway_port=free_port())
    assert nodes_of(place)["n1"]["state"] == "ready"


def test_forwarding_forbidden(place, machines):
    machine = machines(options={"AllowTcpForwarding": "no", "AllowStreamLocalForwarding": "no"})
    error = refused(
        place, asking(machine.target, identity=machine.client_key), ready_timeout_s=20, gateway_port=free_port()
    )
    assert error.exit_code in (5, 7)
    assert "forward" in error.message
    assert is_clean(machine)
    assert is_clean_here(place)


def test_each_of_several_machines_has_its_own_error_and_none_is_changed(place, machines):
    good, bad = machines(), machines(passwords_only=True)
    nobody = f"somebody@127.0.0.1:{free_port()}"
    error = refused(place, asking(good.target, bad.target, nobody, identity=good.client_key))
    assert [one.code for one in error.parts()] == ["password_only", "connection_refused"]
    assert error.exit_code == 4
    assert not list(good.user_home.iterdir())
    assert processes_touching(place.root) == {}


@pytest.mark.parametrize("host", ["", "user@", "user@host:0", "user@host:99999", "-oProxyCommand=x", "a b"])
def test_what_is_no_host(host):
    with pytest.raises(LlmhostError) as failure:
        places(HostWish((host,)), [], "default", "0" * 32)
    assert (failure.value.code, failure.value.exit_code) == ("bad_host", 2)


def test_no_host_at_all(place):
    error = refused(place, asking())
    assert (error.code, error.exit_code, error.hint) == (
        "no_host",
        2,
        "llmhost up --provider ssh --host user@host:port",
    )


def test_an_unwritable_state_folder(place, machine):
    place.paths.state_dir.parent.rmdir()
    place.paths.state_dir.parent.write_text("a file where a folder should be")
    error = refused(place, asking(machine.target, identity=machine.client_key))
    assert error.code == "state_unwritable"
    assert machine.connections() == 0


def test_a_runtime_path_that_is_too_long_gets_a_short_one(machine):
    from tests.support.installation import installation

    with installation(folder_length=90) as place:
        bring_up(place, machine, gateway_port=free_port())
        local = nodes_of(place)["n1"]["tunnel"]["local"]
        assert len(os.fsencode(local)) < 108
        assert take_down(place).exit_code == 0
