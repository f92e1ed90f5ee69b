"""How every transport ends when it is not let in, or must not go in: each way has its own reason, whatever carries the link."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmhost.ssh.target import SshTarget
from llmhost.tunnel.base import Transport, open_transport
from tests.support.echo_node import ask
from tests.support.openssh import INSTALL, make_key
from tests.support.system import free_port, program, wait_until
from tests.support.transport_rig import ALIAS, TransportRig

TRANSPORTS = ("openssh", "sshtunnel")
Make = Callable[..., TransportRig]


@pytest.fixture(params=TRANSPORTS)
def make(request: pytest.FixtureRequest, short_tmp: Path) -> Iterator[Make]:
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(TransportRig(short_tmp, request.param, **options))


@pytest.fixture
def rig(make: Make) -> TransportRig:
    return make()


def test_another_host_key_is_final_and_nothing_is_told_to_that_machine(rig):
    rig.sshd.rekey()
    reason = rig.start().wait_ended()
    assert (reason.code, reason.fatal) == ("host_key_changed", True)
    assert str(rig.sshd.target) in reason.text
    assert (rig.sshd.connections(), rig.sshd.auth_requests()) == (1, 0)


def test_the_pinned_key_is_asked_for_when_the_machine_has_several(make):
    rig = make(host_key_types=("rsa", "ed25519"))
    rig.up()  # the rig pins the first


def test_a_machine_without_a_pin_is_not_met_for_the_first_time_by_a_link(rig):
    rig.pins.forget(ALIAS)
    reason = rig.start().wait_ended()
    assert (reason.code, reason.fatal) == ("host_key_unknown", True)
    assert rig.pins.known(ALIAS) == []
    assert rig.sshd.auth_requests() == 0


def test_the_file_of_pins_may_have_any_name(rig):
    pins = rig.folder / "elsewhere"
    pins.write_text(f"{ALIAS} {rig.sshd.host_key}\n")
    rig.up(known_hosts=str(pins))
    rig.sshd.rekey()
    assert rig.start(known_hosts=str(pins)).wait_ended().code == "host_key_changed"


def test_a_key_that_is_not_let_in(rig):
    stranger = make_key(rig.folder / "stranger")
    reason = rig.start(identity=str(stranger)).wait_ended()
    assert (reason.code, reason.fatal) == ("auth_refused", True)
    assert rig.sshd.connections() == 1


def test_a_locked_key_is_told_from_a_refused_one(rig):
    locked = make_key(rig.folder / "locked", passphrase="open sesame")
    reason = rig.start(identity=str(locked)).wait_ended()
    assert (reason.code, reason.fatal) == ("key_locked", True)
    assert str(locked) in reason.text


def test_a_key_that_is_not_there(rig):
    reason = rig.start(identity=str(rig.folder / "lost")).wait_ended()
    assert (reason.code, reason.fatal) == ("key_unreadable", True)


def test_no_key_at_all(rig, monkeypatch):
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    reason = rig.start(identity=None, agent=None).wait_ended()
    assert (reason.code, reason.fatal) == ("auth_refused", True)


@pytest.fixture
def agent(short_tmp: Path) -> Iterator[Path]:
    """The socket of an agent of the test's own."""
    path = short_tmp / "agent"
    with subprocess.Popen([program("ssh-agent", INSTALL), "-D", "-a", str(path)], stdout=subprocess.DEVNULL) as process:
        wait_until(path.exists, "the agent", 20)
        yield path
        process.kill()


def _add(agent: Path, key: Path) -> None:
    command = [program("ssh-add", INSTALL), "-q", str(key)]
    subprocess.run(command, check=True, env={**os.environ, "SSH_AUTH_SOCK": str(agent)}, timeout=30)


def test_a_key_that_only_the_agent_has(rig, agent):
    _add(agent, rig.sshd.client_key)
    rig.up(identity=None, agent=str(agent))
    assert rig.sshd.connections() == 1


def test_a_locked_key_that_the_agent_holds(rig, agent):
    key = rig.sshd.client_key
    _add(agent, make_key(rig.folder / "other"))
    _add(agent, key)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", str(key)], check=True, timeout=30)
    rig.up(identity=str(key), agent=str(agent))
    assert rig.sshd.connections() == 1


def test_an_agent_that_is_gone_is_no_key(rig):
    reason = rig.start(identity=None, agent=str(rig.folder / "gone")).wait_ended()
    assert (reason.code, reason.fatal) == ("auth_refused", True)


def test_a_machine_that_wants_a_password(make):
    reason = make(passwords_only=True).start().wait_ended()
    assert (reason.code, reason.fatal) == ("password_only", True)


def test_a_port_nobody_listens_on(rig):
    target = dataclasses.replace(rig.sshd.target, port=free_port())
    reason = rig.start(target=target).wait_ended()
    assert (reason.code, reason.fatal) == ("connection_refused", False)


def test_a_name_that_does_not_resolve(rig):
    target = SshTarget("no-such-machine.invalid", 22, "root")
    reason = rig.start(target=target).wait_ended()
    assert (reason.code, reason.fatal) == ("name_unresolved", False)


def test_a_machine_that_accepts_and_says_nothing(rig):
    rig.sshd.freeze_listener()
    reason = rig.start(timing={"connect": 1.0}).wait_ended()
    assert (reason.code, reason.fatal) == ("connect_timeout", False)


def test_a_port_where_something_else_answers(rig):
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=_answer_as_a_data_base, args=(other,), daemon=True).start()
        target = dataclasses.replace(rig.sshd.target, port=other.getsockname()[1])
        reason = rig.start(target=target, timing={"connect": 5.0}).wait_ended()
    assert (reason.code, reason.fatal) == ("not_ssh", False)


def _answer_as_a_data_base(listener: socket.socket) -> None:
    client, _ = listener.accept()
    with client:
        client.sendall(b"J\0\0\0\n5.7.44-log\0+\0\0\0 mysql_native_password\0\n")
        with contextlib.suppress(OSError):
            client.recv(1000)
            client.recv(1000)


def test_a_machine_that_forbids_forwarding(make):
    rig = make(options={"AllowTcpForwarding": "no", "AllowStreamLocalForwarding": "no"})
    linked = rig.start()
    if rig.spec.transport == "sshtunnel":
        reason = linked.wait_ended()
        assert (reason.code, reason.fatal) == ("forwarding_refused", True)
    else:
        # OpenSSH's server says the same when nobody listens on that Unix socket: the link's probe has to tell.
        linked.wait_up()
        with pytest.raises((OSError, http.client.HTTPException)):
            ask(linked.path, "GET", "/health")
        wait_until(lambda: any("open failed" in line for line in linked.said), "ssh to say so", 20)
        assert not linked.ended


def test_a_machine_that_refuses_sessions(make):
    linked = make(options={"MaxSessions": "0"}).start()  # so are those that OpenSSH's server counts as too many
    linked.connection.beat()
    assert linked.wait_ended().code == "session_refused"


def test_an_account_whose_sessions_end_at_once(make):
    linked = make(options={"ForceCommand": "/bin/false"}).start()
    linked.connection.beat()
    reason = linked.wait_ended()
    assert reason.code in ("session_refused", "connection_lost")  # ssh says nothing about it
    assert not reason.fatal


def test_an_explanation_without_last_words_is_a_lost_connection(rig):
    transport: Transport = open_transport(rig.spec.transport)
    assert transport.explain(-9, "", rig.spec).code == "connection_lost"
    assert transport.explain(None, "", rig.spec).code == "connect_timeout"
