"""What the first look at a machine finds, and how it names what is wrong with one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmhost.bootstrap import first_look, ollama, remote_look
from llmhost.bootstrap.install import node_folder
from llmhost.bootstrap.machine import inspect, machine_of
from llmhost.core.errors import LlmhostError
from tests.bootstrap.place import Shown, ask
from tests.support.system import missing

TOOLS = ("bash", "sh", "rm", "cat", "mkdir", "mv", "wc", "setpriv")
FACTS = {"home": "/home/u", "python": "/usr/bin/python3"}
TOLD = {"python_version": "3.12.1", "abi_tag": "cp312", "platform": "linux-x86_64-glibc-2.36", "memory_mb": 64_000}


def program(folder, name, script):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def poor_path(folder):
    """A PATH with hardly anything on it, and no Python."""
    folder.mkdir(parents=True)
    for tool in TOOLS:
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    return folder


def failure(place, **options):
    with pytest.raises(LlmhostError) as failed:
        inspect(place.session(), **options)
    return failed.value


def test_a_usual_machine(place):
    machine = inspect(place.session(), node_folder("n1"))
    assert machine.home == str(place.home)
    assert machine.abi_tag.startswith("cp3")
    assert machine.platform == remote_look.platform_name()
    assert machine.disk_free_mb > 100
    assert machine.memory_mb > 100
    assert not list(place.home.iterdir())  # nothing was left behind


def test_the_graphics_card_is_named_with_its_memory_and_its_driver(make_place, short_tmp):
    rows = ["NVIDIA GeForce RTX 4090, 570.124.06, 24564", "NVIDIA GeForce RTX 4090, 570.124.06, 24564"]
    program(short_tmp / "bin", "nvidia-smi", f"printf '%s\\n' '{rows[0]}' '{rows[1]}'")
    place = make_place(environment={"PATH": f"{short_tmp}/bin:{os.environ['PATH']}"})
    machine = inspect(place.session())
    assert (machine.gpu, machine.driver, machine.vram_total_mb) == ("2x RTX 4090", "570.124.06", 49_128)


def test_a_driver_that_does_not_work_is_no_graphics_card(make_place, short_tmp):
    program(short_tmp / "bin", "nvidia-smi", "echo 'NVIDIA-SMI has failed because it could not communicate'; exit 9")
    place = make_place(environment={"PATH": f"{short_tmp}/bin:{os.environ['PATH']}"})
    machine = inspect(place.session())
    assert machine.gpu is None
    assert machine.gpu_trouble == "NVIDIA-SMI has failed because it could not communicate"


def test_cards_of_several_kinds_are_all_named(monkeypatch, tmp_path):
    rows = [f"NVIDIA {name}, 570.1, {size}" for name, size in (("H100", 81_559), ("L4", 23_034), ("H100", 81_559))]
    program(tmp_path, "nvidia-smi", "printf '%s\\n' " + " ".join(f"'{row}'" for row in rows))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = remote_look.cards()
    assert (found["gpu"], found["vram_total_mb"]) == ("2x H100 + L4", 186_152)


def test_a_program_that_hangs_does_not_hang_the_look():
    began = time.monotonic()
    assert remote_look.run(["/bin/sh", "-c", "sleep 50 & wait"], 0.2) == (None, "")
    assert time.monotonic() - began < 30


def test_an_ollama_that_does_not_work_is_not_taken(make_place, short_tmp):
    broken = program(short_tmp / "bin", "ollama", "echo 'cannot execute binary file' >&2; exit 126")
    place = make_place(environment={"PATH": f"{short_tmp}/bin:{os.environ['PATH']}"})
    machine = inspect(place.session())
    assert (machine.ollama_bin, machine.ollama_broken) == (None, str(broken))
    planned = ollama.plan(machine)
    assert (planned.mode, str(broken) in planned.note) == ("install", True)
    own = program(place.home / ".llmhost" / "ollama" / "bin", "ollama", "echo ollama version is 0.24.0")
    machine = inspect(place.session())
    assert (machine.ollama_bin, machine.ollama_version) == (str(own), "0.24.0")


def test_without_python_it_says_what_it_looked_for(make_place, short_tmp):
    place = make_place(environment={"PATH": str(poor_path(short_tmp / "bin"))})
    error = failure(place, places=())
    assert error.code == "no_python"
    assert "looked for python3, python3.14, python3.13, python3.12, python3.11 on PATH" in error.message
    assert "found none" in error.message
    assert not list(place.home.iterdir())


def test_an_old_python_is_named_and_a_newer_one_beside_it_is_found(make_place, short_tmp):
    path = poor_path(short_tmp / "bin")
    program(path, "python3", "echo 3.9.2; exit 1")
    place = make_place(environment={"PATH": str(path)})
    error = failure(place, places=())
    assert (error.code, f"found: {path}/python3 3.9.2" in error.message) == ("no_python", True)

    own = place.home / ".llmhost" / "python" / "bin"
    own.mkdir(parents=True)
    (own / "python3").symlink_to(Path(sys.executable).resolve())
    assert inspect(place.session(), places=("~/.llmhost/python/bin/python3",)).python == f"{own}/python3"


def test_a_python_newer_than_any_package_is_made_for_is_passed_over(make_place, short_tmp):
    newest = first_look.newest()
    path = poor_path(short_tmp / "bin")
    # As a Python that was asked answers, but for its own version.
    asked = f"v=$(echo \"$4\" | sed 's/v = sys.version_info/v = ({newest[0]}, {newest[1] + 1}, 0)/')"
    (path / "sed").symlink_to(shutil.which("sed"))
    program(path, "python3", f'{asked}; exec {sys.executable} "$1" "$2" "$3" "$v"')
    place = make_place(environment={"PATH": str(path)})
    error = failure(place, places=())
    assert error.code == "no_python"
    assert f"found: {path}/python3 {newest[0]}.{newest[1] + 1}.0" in error.message
    (path / "python3.11").symlink_to(sys.executable)
    assert inspect(place.session(), places=()).python_version.startswith("3.")


def test_a_python_that_does_not_work_is_none(make_place, short_tmp):
    path = poor_path(short_tmp / "bin")
    program(path, "python3", "[ $# -gt 4 ] || exit 0; echo nonsense")
    place = make_place(environment={"PATH": str(path)})
    assert failure(place, places=()).code == "no_python"


def test_a_home_that_cannot_be_written_to(make_place):
    place = make_place(read_only_home=True)
    error = failure(place)
    assert error.code == "home_read_only"
    assert str(place.home) in error.message
    assert "Permission denied" in error.message


def test_a_shell_that_talks_and_a_host_without_sftp_are_no_hindrance(make_place):
    place = make_place(prints='Welcome!\nhome=/nowhere\n{"error": {"code": "noise"}}', sftp=False)
    shown = Shown()
    installed = place.up(shown=shown)
    assert installed.folder.startswith(str(place.home))
    assert shown.transfers["bundle"][-1][0] == shown.transfers["bundle"][-1][1]
    assert ask(installed)
    assert not place.up().changed


@pytest.mark.parametrize("platform", ["linux-x86_64-musl-1.2", "linux-armv7l-glibc-2.31", "freebsd-amd64-unknown-0"])
def test_a_machine_no_package_is_made_for(platform):
    with pytest.raises(LlmhostError) as failed:
        machine_of(FACTS, json.dumps({**TOLD, "platform": platform}))
    assert (failed.value.code, platform in failed.value.message) == ("unsupported_platform", True)


def test_a_home_where_no_program_may_run_is_named(place):
    if os.geteuid() != 0:
        missing("a disk of the test's own", "run the tests as root, who may mount one")
    folder = place.home / ".llmhost"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,noexec", "tmpfs", folder], check=True)
    try:
        error = failure(place)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    assert (error.code, "noexec" in error.message) == ("home_noexec", True)


@pytest.mark.parametrize(("off_s", "says"), [(-7_200, "120 minutes behind"), (3_700, "61 minutes ahead"), (30, None)])
def test_a_clock_that_is_wrong_is_a_note(off_s, says):
    notes = machine_of(FACTS, json.dumps({**TOLD, "clock": time.time() + off_s})).notes
    assert [says in note for note in notes] == ([True] if says else [])


@pytest.mark.parametrize(
    ("files", "ends"),
    [
        ({}, False),
        ({"logind.conf": "[Login]\n#KillUserProcesses=yes\n"}, False),
        ({"logind.conf": "[Login]\nKillUserProcesses = yes\n"}, True),
        ({"logind.conf": "KillUserProcesses=yes\n", "logind.conf.d/10-no.conf": "KillUserProcesses=no\n"}, False),
        ({"logind.conf.d/10-yes.conf": "KillUserProcesses=1\n"}, True),
    ],
)
def test_a_system_that_ends_everything_at_logout_is_found(tmp_path, files, ends):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert remote_look.ends_at_logout(str(tmp_path), user=1_000) is ends
    assert remote_look.ends_at_logout(str(tmp_path), user=0) is False


def test_what_ends_at_logout_is_a_note():
    (note,) = machine_of(FACTS, json.dumps({**TOLD, "ends_at_logout": True})).notes
    assert "KillUserProcesses" in note


def test_little_memory_is_a_note_and_no_error():
    assert not machine_of(FACTS, json.dumps(TOLD)).notes
    (note,) = machine_of(FACTS, json.dumps({**TOLD, "memory_mb": 1_900})).notes
    assert "1900 MB of memory" in note
