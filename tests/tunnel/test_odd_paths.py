"""Folders with names that mean something to ssh, to a shell or to ssh_config(5), on both sides."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.system import wait_until
from tests.tunnel.rig import ALIAS, NodeProxy, Rig, answers, wait_state

ODD = ["a b", "50%h", 'say "x"', "co:lon", "back\\slash", "it's", "$HOME", "-dash", "#no", "é"]


@pytest.fixture(params=ODD)
def odd(request, short_tmp):
    """A rig whose local and remote paths all go through a folder with that name."""
    rig = Rig(short_tmp)
    folder = short_tmp / request.param
    folder.mkdir()
    rig.run = folder
    rig.known_hosts = folder / "pin"
    rig.node = NodeProxy(folder / "up.sock")
    try:
        rig.start()
        shutil.copy(rig.sshd.client_key, folder / "key")
        yield rig
    finally:
        rig.close()


def odd_spec(rig, **changes):
    return rig.spec(local=str(rig.run / "n.sock"), identity=str(rig.run / "key"), **changes)


def test_a_link_comes_up_whatever_its_folders_are_called(odd):
    link = odd.link(odd_spec(odd))
    wait_state(link, "up")
    assert answers(link.spec.local)
    assert [event["line"] for event in odd.events("link_said")] == []


def test_the_pin_there_counts(odd):
    odd.sshd.rekey()
    assert wait_state(odd.link(odd_spec(odd)), "failed")["reason"] == "host_key_changed"


@pytest.mark.parametrize("damage", ["", "\n", "garbage\n", f"{ALIAS} ssh-ed25519 AAAA\n"])
def test_a_damaged_pin_is_not_a_first_meeting(rig, damage):
    rig.known_hosts.write_text(damage)
    link = rig.link()
    assert wait_state(link, "failed")["reason"] == "host_key_unknown"
    assert rig.known_hosts.read_text() == damage
    assert rig.sshd.auth_requests() == 0


def test_a_folder_in_the_place_of_the_pin_is_not_a_first_meeting(rig):
    rig.known_hosts.unlink()
    rig.known_hosts.mkdir()
    assert wait_state(rig.link(), "failed")["reason"] == "host_key_unknown"


def test_a_pin_whose_folder_is_a_file_is_named(rig):
    link = rig.link(rig.spec(known_hosts=str(Path(rig.spec().identity) / "pin")))
    wait_until(lambda: link.view()["reason"] not in (None, "no_ssh"), "the reason", 20)
    assert link.view()["state"] == "failed"
