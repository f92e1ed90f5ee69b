"""Every way in which a connection cannot be made: its code, its sentence, and how much was tried."""

from __future__ import annotations

import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from llmhost.ssh.failures import failure
from llmhost.ssh.identity import Identity
from llmhost.ssh.pins import Pins
from llmhost.ssh.session import Session
from llmhost.ssh.target import SshTarget
from tests.ssh.conftest import ALIAS, failing
from tests.support.sshd import Sshd, make_key
from tests.support.system import free_port

Reach = Callable[..., Session]


@pytest.fixture
def reach(tmp_path: Path, pins: Pins) -> Reach:
    """Try to log in somewhere with a fresh key."""
    identity = Identity(make_key(tmp_path / "key"), agent=False)

    def go(host: str, port: int, timeout_s: float = 20.0) -> Session:
        return Session.connect(SshTarget(host, port, "somebody"), identity, pins, ALIAS, timeout_s=timeout_s)

    return go


@pytest.fixture
def answering() -> Iterator[Callable[[bytes | None], int]]:
    """Listeners on a port that say something to whoever connects (None: hang up at once) and then wait."""
    servers: list[socketserver.ThreadingTCPServer] = []

    def make(says: bytes | None) -> int:
        over = threading.Event()

        class Say(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                if says is not None:
                    self.request.sendall(says)
                    self.request.settimeout(0.1)
                    while not over.is_set():
                        try:
                            if not self.request.recv(4096):
                                return
                        except TimeoutError:
                            continue
                        except OSError:
                            return

        server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Say)
        server.over = over  # type: ignore[attr-defined]
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return int(server.server_address[1])

    yield make
    for server in servers:
        server.over.set()  # type: ignore[attr-defined]
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 80 + ".invalid", "a..b"])
def test_a_name_that_does_not_resolve(host: str, reach: Reach) -> None:
    with failing("name_unresolved", host) as caught:
        reach(host, 22)
    assert caught.value.exit_code == 5
    assert not caught.value.fatal


def test_a_host_that_refuses(reach: Reach) -> None:
    port = free_port()
    with failing("connection_refused", str(port)):
        reach("127.0.0.1", port)


def test_a_host_without_a_way_to_it(reach: Reach) -> None:
    # Documentation addresses (RFC 5737) cannot be relied on to have no route; a broadcast address may not be connected to at all.
    with failing("host_unreachable"):
        reach("255.255.255.255", 22)


def test_a_host_that_swallows_everything(reach: Reach) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        fillers = []
        for _ in range(8):  # a full backlog answers no further SYN
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        started = time.monotonic()
        with failing("connect_timeout", str(port)):
            reach("127.0.0.1", port, timeout_s=1.0)
        for filler in fillers:
            filler.close()
    assert time.monotonic() - started < 20


def test_a_port_that_is_open_and_says_nothing(answering: Callable[[bytes | None], int], reach: Reach) -> None:
    with failing("connect_timeout", "no SSH server speaks"):
        reach("127.0.0.1", answering(b""), timeout_s=1.0)


def test_a_frozen_sshd(sshd: Sshd, connect: Callable[..., Session]) -> None:
    sshd.freeze_listener()
    with failing("connect_timeout"):
        connect(sshd, timeout_s=1.0)


def test_a_web_server_is_not_ssh(reach: Reach) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    with failing("not_ssh", "not an SSH server"):
        reach("127.0.0.1", server.server_address[1])
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("says", [b"-ERR unknown command\r\n", b"220 mail ESMTP\r\n", b"\xff\xfe\x00\n"])
def test_other_servers_are_not_ssh(says: bytes, answering: Callable[[bytes | None], int], reach: Reach) -> None:
    started = time.monotonic()
    with failing("not_ssh"):
        reach("127.0.0.1", answering(says))
    assert time.monotonic() - started < 15


def test_lines_before_the_version_are_allowed_and_endless_ones_are_not(
    answering: Callable[[bytes | None], int], reach: Reach
) -> None:
    with failing("connect_timeout"):
        reach("127.0.0.1", answering(b"hello\r\nSSH-2.0-slow\r\n"), timeout_s=1.0)
    with failing("not_ssh"):
        reach("127.0.0.1", answering(b"hello\r\n" * 10_000))


def test_a_port_that_hangs_up(answering: Callable[[bytes | None], int], reach: Reach) -> None:
    with failing("connection_lost", "hung up before the login"):
        reach("127.0.0.1", answering(None))


def test_an_sshd_that_takes_nobody_more(make_sshd: Callable[..., Sshd], reach: Reach) -> None:
    sshd = make_sshd(options={"MaxStartups": "1:100:1"})
    with socket.create_connection(("127.0.0.1", sshd.port)) as first:
        first.recv(100)
        with failing("session_refused", "MaxStartups") as caught:
            reach("127.0.0.1", sshd.port)
    assert not caught.value.fatal


def test_a_server_of_another_age(answering: Callable[[bytes | None], int], reach: Reach) -> None:
    with failing("ssh_incompatible", "1.5 instead of 2.0"):
        reach("127.0.0.1", answering(b"SSH-1.5-old\r\n"))


def test_nothing_in_common(make_sshd: Callable[..., Sshd], connect: Callable[..., Session]) -> None:
    sshd = make_sshd(options={"Ciphers": "chacha20-poly1305@openssh.com"})
    with failing("ssh_incompatible", "no protocol in common"):
        connect(sshd)


def test_a_key_that_is_not_let_in(sshd: Sshd, connect: Callable[..., Session]) -> None:
    sshd.authorize_nobody()
    with failing("auth_refused") as caught:
        connect(sshd)

    assert caught.value.fatal
    assert caught.value.exit_code == 4
    assert caught.value.hint.endswith(f"ssh-copy-id -f -i {sshd.client_key}.pub -p {sshd.port} {sshd.user}@127.0.0.1")
    assert sshd.connections() == 1


def test_a_user_who_may_not_log_in_at_all(make_sshd: Callable[..., Sshd], connect: Callable[..., Session]) -> None:
    sshd = make_sshd()
    sshd.close()
    sshd = make_sshd(options={"DenyUsers": sshd.user})
    with failing("auth_refused"):
        connect(sshd)


def test_a_host_that_only_takes_passwords(make_sshd: Callable[..., Sshd], connect: Callable[..., Session]) -> None:
    sshd = make_sshd(passwords_only=True)
    with failing("password_only", "only with a password") as caught:
        connect(sshd)
    assert caught.value.fatal
    assert sshd.connections() == 1


def test_a_host_that_wants_a_second_factor(make_sshd: Callable[..., Sshd], connect: Callable[..., Session]) -> None:
    sshd = make_sshd(options={"AuthenticationMethods": "publickey,password", "PasswordAuthentication": "yes"})
    with failing("auth_refused", "the key is good, and it wants password too"):
        connect(sshd)


def test_an_sshd_that_goes_away_during_the_login(sshd: Sshd, connect: Callable[..., Session], pins: Pins) -> None:
    # the moment a first key is told is just before the login
    with failing("connection_lost"):
        connect(sshd, on_first_key=lambda fingerprint: sshd.kill_sessions())


def test_what_the_callback_raises_ends_the_connection(sshd: Sshd, connect: Callable[..., Session]) -> None:
    def refuse(fingerprint: str) -> None:
        raise KeyError(fingerprint)

    before = set(threading.enumerate())
    with pytest.raises(KeyError):
        connect(sshd, on_first_key=refuse)
    assert set(threading.enumerate()) == before
    assert not sshd.auth_requests()


def test_failed_connections_leave_nothing_behind_and_say_nothing(sshd: Sshd, tmp_path: Path) -> None:
    code = """
import socket, sys, threading
from pathlib import Path
from llmhost.ssh.identity import Identity
from llmhost.ssh.pins import Pins
from llmhost.ssh.session import Session
from llmhost.ssh.failures import SshFailure
from llmhost.ssh.target import SshTarget
folder, port, key = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
listener = socket.create_server(("127.0.0.1", 0))
closed = socket.socket()
closed.bind(("127.0.0.1", 0))  # nobody listens there, and nobody else can
def say_something_and_hang_up():
    for says in (b"SSH-2.0-x", b"HTTP/1.0 400 Bad Request"):
        with listener.accept()[0] as connection:
            connection.sendall(says + b"\\r\\n")
            connection.recv(10)
stranger = threading.Thread(target=say_something_and_hang_up)
stranger.start()
for user, port in (("nobody-here", port), ("x", closed.getsockname()[1]), *[("x", listener.getsockname()[1])] * 2):
    try:
        Session.connect(SshTarget("127.0.0.1", port, user), Identity(key, False), Pins(folder), "a", timeout_s=30)
    except SshFailure as error:
        print(error.code)
stranger.join()
listener.close()
closed.close()
print(threading.active_count())
"""
    arguments = [str(tmp_path / "hosts"), str(sshd.port), str(sshd.client_key)]
    started = time.monotonic()
    run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=90)

    assert (run.stdout, run.stderr) == ("auth_refused\nconnection_refused\nconnection_lost\nnot_ssh\n1\n", "")
    assert time.monotonic() - started < 25  # no timer of a handshake keeps it from ending


def test_importing_costs_no_paramiko() -> None:
    code = (
        "import sys; import llmhost.ssh.session, llmhost.ssh.pins, llmhost.ssh.identity, llmhost.ssh.failures\n"
        "print([name for name in ('paramiko', 'cryptography', 'sshtunnel') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[]\n"


def test_nothing_of_the_users_ssh_folder_is_read(
    sshd: Sshd, connect: Callable[..., Session], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "operator"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "config").write_text("Garbage here\nHost *\n  Port 1\n  User nobody\n")
    (home / ".ssh" / "known_hosts").write_text(f"{ALIAS} {sshd.host_key}x\n")
    good = make_key(home / ".ssh" / "id_ed25519")
    sshd.authorize_nobody()
    sshd.authorize(good.with_name("id_ed25519.pub").read_text())
    monkeypatch.setenv("HOME", str(home))

    with failing("auth_refused"):
        connect(sshd)


def test_what_a_stranger_says_is_shown_as_one_plain_line() -> None:
    error = failure("not_ssh", SshTarget("::1", 2222, "me"), "a\x1b[31mb\n\tc" + "x" * 1_000)

    assert error.message.startswith("what answers on port 2222 of ::1 is not an SSH server: a [31mb c")
    assert len(error.message) < 400
    assert error.message.endswith("x.")


def test_an_unknown_code_reads_as_a_lost_connection() -> None:
    assert failure("never_heard_of", SshTarget("h", 22, "u")).code == "connection_lost"
