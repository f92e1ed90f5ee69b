"""A living link tells the machine at its other end that the operator is there."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmhost.tunnel.spec import LinkSpec
from llmhost.tunnel.transports.remote_echo import echo_loop
from tests.support.system import wait_until
from tests.support.transport_rig import TransportRig

FILE = ".llmhost/guard/contact"
LONG_AGO = 1_000_000_000
SHELLS = [shell for shell in ("sh", "dash", "bash", "busybox") if shutil.which(shell)]


@pytest.fixture(params=("openssh", "sshtunnel"))
def rig(request: pytest.FixtureRequest, short_tmp: Path) -> Iterator[TransportRig]:
    with TransportRig(short_tmp, request.param) as rig:
        yield rig


def is_new(file):
    return file.exists() and file.stat().st_mtime > LONG_AGO + 1


def test_each_heartbeat_renews_the_file_and_starts_no_process(rig):
    file = rig.sshd.user_home / FILE
    file.parent.mkdir(parents=True)
    linked = rig.up(beat=FILE)
    assert is_new(file)
    before = rig.sshd.command_pids()
    for _ in range(3):
        os.utime(file, (LONG_AGO, LONG_AGO))
        assert linked.echoes(20)
        assert is_new(file)
    assert rig.sshd.command_pids() == before
    assert file.stat().st_size <= 1


def test_an_absolute_path_and_no_path(rig):
    elsewhere = rig.folder / "it's elsewhere"
    elsewhere.mkdir()
    assert rig.up(beat=str(elsewhere / "beat")).echoes(20)
    wait_until((elsewhere / "beat").exists, "the file")
    rig.up()
    assert not (rig.sshd.user_home / ".llmhost").exists()


def test_without_the_folder_there_is_no_file_and_the_link_lives(rig):
    linked = rig.up(beat=FILE)
    assert linked.echoes(20)
    assert not (rig.sshd.user_home / ".llmhost").exists()
    (rig.sshd.user_home / FILE).mkdir(parents=True)  # what cannot be written is let be
    assert linked.echoes(20)
    assert linked.echoes(20)


def test_silence_renews_nothing(rig):
    file = rig.sshd.user_home / FILE
    file.parent.mkdir(parents=True)
    linked = rig.up(beat=FILE)
    linked.close()
    os.utime(file, (LONG_AGO, LONG_AGO))
    rig.up()
    assert not is_new(file)


@pytest.mark.parametrize("shell", SHELLS)
def test_any_shell_will_do(short_tmp, shell):
    (short_tmp / ".llmhost" / "guard").mkdir(parents=True)
    run = [shell, "sh"] if shell == "busybox" else [shell]
    loop = echo_loop(beat=FILE).replace("/bin/sh -c", f"{shutil.which(shell)} {'sh ' if shell == 'busybox' else ''}-c")
    for expected in (True, False):
        command = [*run, "-c", loop]
        home = {"HOME": str(short_tmp), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            command, input="a b\nc\\d\n", cwd="/", env=home, capture_output=True, text=True, timeout=20
        )
        assert (done.stdout, done.stderr) == ("a b\nc\\d\n", "")
        assert (short_tmp / FILE).exists() == expected
        shutil.rmtree(short_tmp / ".llmhost", ignore_errors=True)


def test_the_spec_keeps_it(rig):
    assert LinkSpec.from_dict(rig.spec.as_dict()).beat is None
    told = rig.spec.as_dict() | {"beat": FILE}
    assert LinkSpec.from_dict(told).beat == FILE
