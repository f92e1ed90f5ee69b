"""Host keys: trusted once, told once, and never replaced silently."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from llmhost.core.errors import LlmhostError
from llmhost.ssh.pins import Pins, fingerprint
from llmhost.ssh.session import Session
from tests.ssh.conftest import ALIAS, failing
from tests.support.sshd import Sshd, make_key


def key_of(path: Path) -> tuple[str, str]:
    kind, body = path.with_name(path.name + ".pub").read_text().split()[:2]
    return kind, body


def test_the_first_key_is_pinned_and_told_once(sshd: Sshd, connect: Callable[..., Session], pins: Pins) -> None:
    told: list[str] = []

    connect(sshd, on_first_key=told.append)
    connect(sshd, on_first_key=told.append)

    assert told == [sshd.host_key_fingerprint]
    assert pins.known(ALIAS) == told
    assert pins.path(ALIAS).stat().st_mode & 0o777 == 0o600
    assert pins.path(ALIAS).read_text() == f"{ALIAS} {sshd.host_key}\n"


def test_ssh_itself_trusts_the_pin(sshd: Sshd, connect: Callable[..., Session], pins: Pins) -> None:
    connect(sshd)
    pinned = ["-o", f"UserKnownHostsFile={pins.path(ALIAS)}", "-o", f"HostKeyAlias={ALIAS}"]
    login = ["-i", str(sshd.client_key), "-p", str(sshd.port), f"{sshd.user}@127.0.0.1", "echo in"]
    command = ["ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", *pinned, *login]

    assert (
        subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60).stdout == "in\n"
    )


def test_another_key_is_final_and_nobody_is_named_to_the_stranger(
    sshd: Sshd, connect: Callable[..., Session], pins: Pins
) -> None:
    connect(sshd).close()
    known = sshd.host_key_fingerprint
    sshd.rekey()
    connections, requests = sshd.connections(), sshd.auth_requests()

    with failing("host_key_changed", f"{sshd.host_key_fingerprint} instead of {known}") as caught:
        connect(sshd)

    assert caught.value.fatal
    assert caught.value.exit_code == 4
    assert "--repin" in caught.value.hint
    assert sshd.connections() == connections + 1
    assert sshd.auth_requests() == requests
    assert pins.known(ALIAS) == [known]


def test_another_kind_of_key_is_another_key(
    make_sshd: Callable[..., Sshd], connect: Callable[..., Session], pins: Pins
) -> None:
    sshd = make_sshd(host_key_types=("ecdsa",))
    pins.pin(ALIAS, *key_of(make_key(sshd.folder / "other")))

    with failing("host_key_changed"):
        connect(sshd)
    assert not sshd.auth_requests()


@pytest.mark.parametrize("kind", ["ecdsa", "rsa", "ed25519"])
def test_a_host_with_several_keys_is_asked_for_the_pinned_one(
    kind: str, make_sshd: Callable[..., Sshd], connect: Callable[..., Session], pins: Pins
) -> None:
    sshd = make_sshd(host_key_types=("ed25519", "ecdsa", "rsa"))
    pins.pin(ALIAS, *key_of(sshd.folder / f"host_{kind}"))

    assert connect(sshd).run("echo in").out == "in\n"


def test_a_forgotten_host_is_met_anew(sshd: Sshd, connect: Callable[..., Session], pins: Pins) -> None:
    connect(sshd)
    sshd.rekey()
    pins.forget(ALIAS)
    told: list[str] = []

    connect(sshd, on_first_key=told.append)

    assert told == [sshd.host_key_fingerprint]


@pytest.mark.parametrize("text", ["", "# nothing\n", "other ssh-ed25519 AAAA\n", f"{ALIAS} ssh-ed25519 ???\n"])
def test_a_damaged_pin_is_not_a_first_meeting(
    text: str, sshd: Sshd, connect: Callable[..., Session], pins: Pins
) -> None:
    pins.folder.mkdir()
    pins.path(ALIAS).write_text(text)

    with failing("host_key_unknown") as caught:
        connect(sshd)
    assert caught.value.fatal
    assert not sshd.auth_requests()
    assert pins.path(ALIAS).read_text() == text


def test_hashed_names_and_other_lines_are_read_as_ssh_reads_them(pins: Pins, tmp_path: Path) -> None:
    mine, second, revoked, foreign = (key_of(make_key(tmp_path / name)) for name in ("a", "b", "c", "d"))
    pins.folder.mkdir()
    pins.path(ALIAS).write_text(f"{ALIAS} {' '.join(mine)} a comment\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", pins.path(ALIAS)], check=True, capture_output=True)
    hashed = pins.path(ALIAS).read_text()
    assert hashed.startswith("|1|")
    lines = [
        "# a comment",
        "",
        f"@revoked {ALIAS} {' '.join(revoked)}",
        f"elsewhere {' '.join(foreign)}",
        f"elsewhere,{ALIAS} {' '.join(second)}",
        "|1|garbage",
        "|1|a|b ssh-ed25519 AAAA",
        "\x00\xff",
    ]
    pins.path(ALIAS).write_text(hashed + "\n".join(lines))

    assert pins.keys(ALIAS) == [mine, second]


def test_a_fingerprint_is_the_one_that_ssh_says(tmp_path: Path) -> None:
    key = make_key(tmp_path / "key")
    said = subprocess.check_output(["ssh-keygen", "-l", "-f", f"{key}.pub"], text=True)
    assert fingerprint(key_of(key)[1]) == said.split()[1]


def test_further_keys_may_be_pinned_and_garbage_may_not(pins: Pins, tmp_path: Path) -> None:
    one, two = key_of(make_key(tmp_path / "one")), key_of(make_key(tmp_path / "two"))
    pins.pin(ALIAS, *one)
    pins.pin(ALIAS, *two)
    pins.pin(ALIAS, *one)

    assert pins.keys(ALIAS) == [one, two]
    assert pins.folder.stat().st_mode & 0o777 == 0o700
    for kind, key in (("ssh-ed25519", "a b"), ("two words", one[1]), ("ssh-ed25519", "")):
        with pytest.raises(ValueError, match="no public key"):
            pins.pin(ALIAS, kind, key)


@pytest.mark.parametrize("alias", ["", "../x", "a/b", ".hidden", "-o", "a b", "x" * 300])
def test_what_cannot_name_a_file_is_refused(alias: str, pins: Pins) -> None:
    with pytest.raises(LlmhostError) as caught:
        pins.keys(alias)
    assert caught.value.code == "bad_alias"


def test_of_two_first_meetings_at_once_one_pins(pins: Pins, tmp_path: Path) -> None:
    keys = [key_of(make_key(tmp_path / f"key{number}")) for number in range(8)]
    won: list[tuple[str, str]] = []

    def meet(key: tuple[str, str]) -> None:
        if pins.pin_first(ALIAS, *key):
            won.append(key)

    threads = [threading.Thread(target=meet, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert pins.keys(ALIAS) == won


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    pins = Pins(tmp_path / "file" / "hosts")
    with pytest.raises(LlmhostError) as caught:
        pins.pin(ALIAS, *key_of(make_key(tmp_path / "key")))
    assert caught.value.code == "state_unwritable"
