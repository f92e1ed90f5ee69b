"""A bundle arrives whole or not at all: broken connections, full disks, several at once, damaged files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from llmhost.bootstrap import bundle, remote_unpack
from llmhost.bootstrap.machine import inspect
from llmhost.bootstrap.push import push
from llmhost.core.errors import LlmhostError
from llmhost.ssh.failures import SshFailure
from tests.bootstrap.place import Shown
from tests.support.system import missing

MIB = 1024 * 1024


@pytest.fixture
def parcel(tmp_path):
    """Makes bundles of a few files, `size` bytes long altogether; nothing of it can be packed smaller."""

    def make(text, size=200_000):
        file = tmp_path / f"{text}.tar.gz"
        bundle.write_archive(file, [("llmhost/text", text.encode()), ("llmhost/noise", os.urandom(size))])
        return bundle.describe(file)

    return make


def folder_of(place):
    return f"{place.home}/.llmhost/nodes/n1"


def send(place, parcel, shown=None, session=None, **more):
    return push(session or place.session(), parcel, folder_of(place), sys.executable, shown or Shown(), **more)


def state(place):
    """What is there: the text of the current release, and the names beside it."""
    folder = Path(folder_of(place))
    current = folder / "current" / "lib" / "llmhost" / "text"
    names = {path.name for path in (folder / "releases").iterdir()} - {".lock"} if folder.exists() else set()
    return (current.read_text() if current.exists() else None), names


def test_it_arrives_once_and_the_one_before_stays(place, parcel):
    one, two, three = parcel("one"), parcel("two"), parcel("three")
    assert send(place, one)
    assert state(place) == ("one", {one.name})
    assert not send(place, one)
    assert send(place, two)
    assert state(place) == ("two", {one.name, two.name})
    assert not send(place, one)  # back again, without sending it
    assert send(place, two) is False
    assert send(place, three)
    assert state(place) == ("three", {two.name, three.name})
    assert Path(folder_of(place)).stat().st_mode & 0o077 == 0


def test_a_release_that_still_runs_is_not_deleted(place, parcel):
    one, two, three = parcel("one"), parcel("two"), parcel("three")
    send(place, one)
    folder = Path(folder_of(place))
    (folder / "state").mkdir()
    (folder / "state" / "supervisor.json").write_text(json.dumps({"lib": f"{folder}/releases/{one.name}/lib"}))
    send(place, two)
    send(place, three)
    assert state(place) == ("three", {one.name, two.name, three.name})


def test_a_connection_lost_in_the_middle_changes_nothing_and_the_next_push_works(place, parcel):
    one, big = parcel("one"), parcel("big", 30 * MIB)
    send(place, one)

    class Cutting(Shown):
        def transfer(self, code, text, done, total):
            if done > total // 2:
                place.sshd.kill_sessions()

    with pytest.raises(SshFailure) as failed:
        send(place, big, Cutting())
    assert failed.value.code == "connection_lost"
    text, names = state(place)
    assert text == "one"
    assert [name for name in names if not name.startswith((one.name, big.name))] == []
    assert big.name not in names
    assert send(place, big)
    assert state(place)[0] == "big"


def test_what_an_interrupted_push_left_is_swept_later(place, parcel):
    one = parcel("one")
    send(place, one)
    releases = Path(folder_of(place), "releases")
    old, new = releases / "aaaa.part", releases / f"{remote_unpack.DRAFT}bbbb"
    old.write_text("half")
    os.utime(old, (1, 1))
    new.mkdir()  # another operator's, under way
    send(place, parcel("two"))
    assert (old.exists(), new.exists()) == (False, True)


def test_several_pushes_at_once_give_one_whole_release(place, parcel):
    one = parcel("one", 2 * MIB)
    with ThreadPoolExecutor(4) as pool:
        sent = [each.result() for each in [pool.submit(send, place, one) for _ in range(4)]]
    assert any(sent)
    assert state(place) == ("one", {one.name})


def test_a_file_that_was_damaged_on_its_way_is_not_taken(place, parcel):
    one = parcel("one")
    send(place, one)
    with pytest.raises(LlmhostError) as failed:
        send(place, replace(parcel("two"), sha256="0" * 64))
    assert failed.value.code == "bundle_damaged"
    assert state(place) == ("one", {one.name})


def test_a_bundle_that_was_cut_off_before_it_was_sent_is_not_taken(place, parcel):
    one, cut = parcel("one"), parcel("cut", 2 * MIB)
    send(place, one)
    with cut.file.open("r+b") as file:
        file.truncate(cut.size // 2)
    with pytest.raises(LlmhostError) as failed:
        send(place, replace(bundle.describe(cut.file), unpacked=0))
    assert failed.value.code == "bundle_damaged"
    assert "Traceback" not in failed.value.message
    assert state(place) == ("one", {one.name})
    assert not cut.file.exists()  # the next try makes it anew


@pytest.fixture
def small_disk(place):
    """Mounts a disk of so many MiB at the node's folder."""
    folder = Path(folder_of(place))

    def mount(size_mb):
        if os.geteuid() != 0:
            missing("a disk of the test's own", "run the tests as root, who may mount one")
        folder.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=700", "tmpfs", folder], check=True)

    yield mount
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("disk_mb", [4, 12], ids=["while it is sent", "while it is unpacked"])
def test_a_full_disk_is_named_and_nothing_stays(place, parcel, small_disk, disk_mb):
    small_disk(disk_mb)
    one, big = parcel("one"), parcel("big", 8 * MIB)
    send(place, one)
    with pytest.raises(LlmhostError) as failed:
        send(place, big)
    assert failed.value.code == "disk_full"
    assert state(place) == ("one", {one.name})


def test_too_little_space_is_told_before_anything_is_sent(place, small_disk):
    small_disk(2)
    shown = Shown()
    with pytest.raises(LlmhostError) as failed:
        place.up(shown=shown)
    assert failed.value.code == "disk_full"
    assert "the server needs" in failed.value.message
    assert "1 MB are free" in failed.value.message or "2 MB are free" in failed.value.message
    assert "bundle" not in shown.transfers
    assert state(place) == (None, set())


def test_a_folder_of_somebody_else_is_named(make_place, parcel):
    place = make_place(read_only_home=True)
    with pytest.raises(LlmhostError) as failed:
        send(place, parcel("one"))
    assert failed.value.code == "node_unwritable"
    assert "Permission denied" in failed.value.message


def test_the_look_at_the_disk_is_at_the_nodes_own(place, small_disk):
    small_disk(3)
    assert inspect(place.session(), ".llmhost/nodes/n1").disk_free_mb <= 3
    assert inspect(place.session(), ".llmhost/nodes/n1/deeper").disk_free_mb <= 3
