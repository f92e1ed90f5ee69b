"""What the first look at a machine finds, and how it names what is wrong with one."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from llmhost.bootstrap import remote_look
from llmhost.bootstrap.install import node_folder
from llmhost.bootstrap.machine import inspect, machine_of
from llmhost.core.errors import LlmhostError
from tests.bootstrap.place import Shown, ask

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
    assert inspect(place.session()).gpu is None


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


def test_little_memory_is_a_note_and_no_error():
    assert not machine_of(FACTS, json.dumps(TOLD)).notes
    (note,) = machine_of(FACTS, json.dumps({**TOLD, "memory_mb": 1_900})).notes
    assert "1900 MB of memory" in note
