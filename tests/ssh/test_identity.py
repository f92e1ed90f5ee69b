"""Keys: llmhost's own, one that is named, and the agent's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmhost.core.paths import Paths
from llmhost.ssh.failures import SshFailure
from llmhost.ssh.identity import Identity, check_identity, identities, own_key, public_key
from llmhost.ssh.session import Session
from tests.ssh.conftest import failing
from tests.support.sshd import NOT_ALMIGHTY, Sshd, make_key
from tests.support.system import program, wait_until


@pytest.fixture
def agent(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A real ssh-agent of the test's own, holding nothing; its socket."""
    socket = short_tmp / "agent"
    process = subprocess.Popen(
        [program("ssh-agent", "openssh-client"), "-D", "-a", str(socket)], stdout=subprocess.DEVNULL
    )
    wait_until(socket.exists, "the agent", 20)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
    yield socket
    process.terminate()
    process.wait(20)


def add(key: Path, passphrase: str, folder: Path) -> None:
    asked = folder / "askpass"
    asked.write_text(f"#!/bin/sh\necho '{passphrase}'\n")
    asked.chmod(0o700)
    environment = {**os.environ, "SSH_ASKPASS": str(asked), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
    subprocess.run(["ssh-add", "-q", str(key)], env=environment, check=True, stdin=subprocess.DEVNULL, timeout=30)


def test_the_own_key_is_made_once_and_only_its_owner_may_read_it(paths: Paths) -> None:
    path = own_key(paths)
    made = path.read_bytes()

    assert own_key(paths) == path == paths.state_dir / "keys" / "id_ed25519"
    assert path.read_bytes() == made
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_ssh_itself_reads_the_own_key_and_agrees_on_its_public_half(paths: Paths) -> None:
    path = own_key(paths)

    derived = subprocess.check_output(["ssh-keygen", "-y", "-P", "", "-f", path], text=True)
    beside = path.with_name("id_ed25519.pub").read_text()

    assert public_key(path).split()[:2] == derived.split()[:2] == beside.split()[:2]
    assert beside.split()[2] == "llmhost"


def test_twenty_processes_at_once_make_one_key(paths: Paths) -> None:
    code = (
        "import sys; from pathlib import Path; from llmhost.core.paths import Paths; from llmhost.ssh.identity import *\n"
        "sys.stdin.read(); print(public_key(own_key(Paths(*map(Path, sys.argv[1:])))))"
    )
    places = [str(paths.config_dir), str(paths.state_dir), str(paths.runtime_dir)]
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", code, *places], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(20)
    ]
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.close()
        racer.stdin = None
    answers = {racer.communicate(timeout=90)[0] for racer in racers}

    assert len(answers) == 1
    assert answers.pop().startswith("ssh-ed25519 ")
    assert sorted(path.name for path in (paths.state_dir / "keys").iterdir()) == ["id_ed25519", "id_ed25519.pub"]


def test_a_lost_public_half_is_written_again(paths: Paths) -> None:
    public = own_key(paths).with_name("id_ed25519.pub")
    before = public.read_text()
    public.write_text("garbage\n")
    own_key(paths)
    assert public.read_text() == before


def test_an_own_key_that_is_damaged_says_how_to_get_a_new_one(paths: Paths) -> None:
    path = own_key(paths)
    path.write_text("garbage\n")
    with failing("key_invalid") as caught:
        own_key(paths)
    assert caught.value.hint.endswith(f"rm {path}")


def test_a_named_key_is_the_only_one_used(paths: Paths, tmp_path: Path, agent: Path) -> None:
    key = make_key(tmp_path / "key")

    assert identities(paths, str(key)) == Identity(key, agent=False)
    assert not paths.state_dir.exists()


def test_without_one_the_own_key_and_the_agent_serve(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    assert identities(paths, None) == Identity(own_key(paths), agent=False)
    monkeypatch.setenv("SSH_AUTH_SOCK", "/nowhere")
    assert identities(paths, None) == Identity(own_key(paths), agent=True)


def test_a_key_that_is_not_there_or_that_others_may_read_is_named(tmp_path: Path) -> None:
    open_key = make_key(tmp_path / "open")
    open_key.chmod(0o644)

    with failing("key_unreadable", "No such file"):
        check_identity(tmp_path / "none")
    with failing("key_unreadable", "directory"):
        check_identity(tmp_path)
    with failing("key_unreadable", "others may read it") as caught:
        check_identity(open_key)
    assert caught.value.hint == f"chmod 600 {open_key}"


def test_a_key_without_the_right_to_read_it_is_named(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    key.chmod(0)
    code = "import sys, pathlib; from llmhost.ssh.identity import *; check_identity(pathlib.Path(sys.argv[1]))"
    limits = NOT_ALMIGHTY.split() if os.getuid() == 0 else []

    run = subprocess.run([*limits, sys.executable, "-c", code, str(key)], capture_output=True, text=True, timeout=60)

    assert f"SshLoginFailure: the key {key} cannot be used: Permission denied." in run.stderr


# In two pieces, so that no file of the project looks as if it held one.
_KEY = "OPENSSH " + "PRIVATE KEY-----\n"


@pytest.mark.parametrize("text", ["", "not a key\n", f"-----BEGIN {_KEY}AAAA\n-----END {_KEY}"])
def test_garbage_is_no_key_and_is_not_quoted(tmp_path: Path, text: str) -> None:
    key = tmp_path / "key"
    key.write_text(text)
    key.chmod(0o600)
    with failing("key_invalid") as caught:
        check_identity(key)
    assert str(key) in caught.value.message
    assert "AAAA" not in str(caught.value.as_dict())


def test_the_public_half_given_by_mistake_is_told_as_such(tmp_path: Path) -> None:
    public = make_key(tmp_path / "key").with_name("key.pub")
    public.chmod(0o600)
    with failing("key_invalid", "public half"):
        check_identity(public)


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys_of_every_kind_let_in(
    kind: str, paths: Paths, tmp_path: Path, sshd: Sshd, connect: Callable[..., Session]
) -> None:
    key = make_key(tmp_path / "key", kind=kind)
    sshd.authorize(public_key(key))

    assert connect(sshd, identity=identities(paths, str(key))).run("echo in").out == "in\n"


@pytest.mark.parametrize("form", ["RFC4716", "PEM"])
def test_a_locked_key_is_told_from_a_refused_one(tmp_path: Path, paths: Paths, form: str) -> None:
    key = make_key(tmp_path / "key", kind="rsa")
    subprocess.run(
        ["ssh-keygen", "-q", "-p", "-m", form, "-N", "pass phrase", "-f", key], check=True, stdin=subprocess.DEVNULL
    )

    with failing("key_locked") as caught:
        identities(paths, str(key))
    assert caught.value.hint.endswith(f"ssh-add {key}")
    assert caught.value.fatal


def test_a_locked_key_that_the_agent_holds_lets_in_through_the_agent(
    paths: Paths, tmp_path: Path, agent: Path, sshd: Sshd, connect: Callable[..., Session]
) -> None:
    key, other = make_key(tmp_path / "key", "pass phrase"), make_key(tmp_path / "other")
    sshd.authorize_nobody()
    sshd.authorize(public_key(key))
    add(other, "", tmp_path)
    add(key, "pass phrase", tmp_path)

    identity = identities(paths, str(key))
    assert identity == Identity(key, agent=True)
    assert connect(sshd, identity=identity).run("echo in").out == "in\n"
    assert "Failed publickey" not in sshd.log  # the agent's other key was not offered


def test_the_agent_alone_lets_in(
    paths: Paths, tmp_path: Path, agent: Path, sshd: Sshd, connect: Callable[..., Session]
) -> None:
    key = make_key(tmp_path / "key")
    sshd.authorize(public_key(key))
    add(key, "", tmp_path)

    assert connect(sshd, identity=Identity(None, agent=True)).run("echo in").out == "in\n"
    assert connect(sshd, identity=identities(paths, None)).run("echo own first").out == "own first\n"


def test_an_agent_that_is_gone_or_is_none_offers_nothing(
    short_tmp: Path, sshd: Sshd, connect: Callable[..., Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(short_tmp / "gone"))
    with failing("auth_refused", "none to offer"):
        connect(sshd, identity=Identity(None, agent=True))


def test_an_agent_full_of_keys_does_not_get_the_right_one_shut_out(
    paths: Paths, tmp_path: Path, agent: Path, sshd: Sshd, connect: Callable[..., Session]
) -> None:
    for number in range(8):
        add(make_key(tmp_path / f"key{number}"), "", tmp_path)
    sshd.authorize(public_key(own_key(paths)))

    assert connect(sshd, identity=identities(paths, None)).run("echo in").out == "in\n"
    sshd.authorize_nobody()
    with failing("auth_refused"):
        connect(sshd, identity=identities(paths, None))


def test_failures_of_a_key_end_with_the_exit_code_of_a_login(tmp_path: Path) -> None:
    with pytest.raises(SshFailure) as caught:
        check_identity(tmp_path / "none")
    assert caught.value.exit_code == 4
