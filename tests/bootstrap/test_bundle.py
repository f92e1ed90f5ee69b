"""The bundle: what is in it, that it runs alone, that it is the same every time, and how one for another machine is made."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from llmhost.bootstrap import bundle, packages, remote_look, wheels
from llmhost.bootstrap.machine import Machine
from llmhost.bootstrap.platforms import Platform, pip_platforms, runs_on
from llmhost.core.errors import LlmhostError
from llmhost.core.progress import SilentProgress
from tests.bootstrap.place import Shown
from tests.support import node_lock

ROOT = Path(__file__).parents[2]
OPERATORS = ("typer", "rich", "paramiko", "sshtunnel", "httpx", "pydantic_settings", "cryptography")
OWN_OPERATORS = ("cli", "fleet", "ssh", "bootstrap", "providers", "tunnel", "onstart", "claude")


def machine(abi_tag=None, platform=None, version="3.11.7"):
    return Machine(
        "/home/u", "python3", version, abi_tag or remote_look.abi_tag(), platform or remote_look.platform_name()
    )


OTHER = machine("cp399", "linux-aarch64-glibc-2.31", "3.99.0")


@pytest.fixture(scope="module")
def made(bundles):
    return bundle.build(machine(), bundles, SilentProgress())


def test_it_holds_the_server_tower_and_nothing_of_the_operators(made):
    with tarfile.open(made.file) as archive:
        names = [member.name for member in archive]
        assert all(member.isreg() and member.mtime == 0 and member.uid == 0 for member in archive)
    tops = {name.split("/")[1] for name in names}
    assert {"llmhost", "fastapi", "uvicorn", "aiohttp", "redis", "pydantic_core"} <= tops
    assert not tops & set(OPERATORS)
    assert not {name.split("/")[2] for name in names if name.startswith("lib/llmhost/")} & set(OWN_OPERATORS)
    assert not [name for name in names if name.endswith(".pyc") or "/../" in name or not name.startswith("lib/")]
    assert names == sorted(names)
    assert made.size == made.file.stat().st_size < 40_000_000


def test_the_server_and_the_agent_run_from_it_alone(made, tmp_path):
    with tarfile.open(made.file) as archive:
        archive.extractall(tmp_path, filter="data")
    modules = (
        "llmhost.proxy.serve, llmhost.node.__main__, llmhost.supervisor.supervisor, uvloop, httptools, pypdf, redis"
    )
    program = f"import {modules}; print(llmhost.__file__)"
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "lib"), "HOME": str(tmp_path)}
    python = Path(sys.executable).resolve()  # without the environment's packages
    done = subprocess.run([python, "-P", "-S", "-c", program], env=environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"{tmp_path}/lib/llmhost/__init__.py"


def test_it_is_the_same_every_time_and_made_once(made, bundles, tmp_path):
    shown = Shown()
    assert bundle.build(machine(), bundles, shown) == made
    assert not shown.phases
    entries = list(bundle.own_files())
    for name in ("one", "two"):
        bundle.write_archive(tmp_path / name, reversed(entries) if name == "two" else entries)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_old_ones_are_deleted(tmp_path, shelf):
    for number in range(9):
        old = tmp_path / f"{number}.tar.gz"
        old.write_bytes(b"old")
        os.utime(old, (number, number))
    built = bundle.build(OTHER, tmp_path, SilentProgress(), lock_of(make_wheel(shelf, "py3-none-any")))
    kept = {f"{number}.tar.gz" for number in range(4, 9)}
    assert {path.name for path in tmp_path.glob("*.gz")} == kept | {built.file.name}


def test_the_servers_packages_are_those_the_project_lists():
    text = (ROOT / "pyproject.toml").read_text()
    listed = tomllib.loads(text)["project"]["dependencies"]
    after = text[text.index("# server tower") :]
    tower = [line for line in listed if f'"{line}"' in after]
    assert sorted(re.match(r"[\w.-]+", line)[0] for line in tower) == sorted(packages.SERVER_TOWER)


def test_the_nodes_lock_file_is_the_projects():
    assert node_lock.FILE.read_text() == node_lock.render(), "run: python -m tests.support.node_lock"
    locked = set(re.findall(r"^([\w-]+)==", node_lock.render(), re.M))
    assert {packages.normal(one.name) for one in packages.closure()} <= locked


# ── another kind of machine ─────────────────────────────────────────────────────────────────────────────────────


def make_wheel(folder, tag, name="tiny", version="1.0", content="WHERE = 'there'\n"):
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}/__init__.py": content,
        f"{name}-{version}.data/scripts/{name}": "#!python\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n",
    }
    rows = [f"{file},sha256={_digest(text)},{len(text)}" for file, text in files.items()]
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(f"{info}/RECORD", "\n".join([*rows, f"{info}/RECORD,,"]) + "\n")
    return path


def _digest(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def lock_of(*files):
    lines = []
    for file in files:
        name, version = file.name.split("-")[:2]
        lines.append(f"{name}=={version} --hash=sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}\n")
    return "".join(lines)


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """An index of the test's own: a folder of wheels."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def test_packages_for_another_machine_are_fetched_by_their_hash(shelf, tmp_path):
    wanted = make_wheel(shelf, "cp399-cp399-manylinux_2_28_aarch64")
    make_wheel(shelf, "cp399-cp399-manylinux_2_28_x86_64")
    built = bundle.build(
        machine("cp399", "linux-aarch64-glibc-2.31", "3.99.0"), tmp_path / "cache", SilentProgress(), lock_of(wanted)
    )
    with tarfile.open(built.file) as archive:
        names = archive.getnames()
        assert archive.extractfile("lib/tiny/__init__.py").read() == b"WHERE = 'there'\n"
    assert "lib/llmhost/proxy/serve.py" in names
    assert "lib/fastapi/__init__.py" not in names
    assert not [name for name in names if ".data/" in name]
    shown = Shown()
    bundle.build(machine("cp399", "linux-aarch64-glibc-2.31", "3.99.0"), tmp_path / "cache", shown, lock_of(wanted))
    assert not shown.phases


def test_a_package_with_another_hash_is_refused(shelf, tmp_path):
    wanted = make_wheel(shelf, "py3-none-any")
    lock = lock_of(wanted)
    wanted.unlink()
    make_wheel(shelf, "py3-none-any", content="EVIL = True\n")
    with pytest.raises(LlmhostError) as failed:
        bundle.build(OTHER, tmp_path / "cache", SilentProgress(), lock)
    assert failed.value.code == "packages_not_found"
    assert not list((tmp_path / "cache").iterdir())


def test_a_package_that_there_is_not_for_that_machine_is_named(shelf, tmp_path):
    other = make_wheel(shelf, "cp399-cp399-manylinux_2_35_aarch64")
    with pytest.raises(LlmhostError) as failed:
        bundle.build(OTHER, tmp_path / "cache", SilentProgress(), lock_of(other))
    assert failed.value.code == "packages_not_found"
    assert "tiny" in failed.value.message


def test_macos_and_linux_cannot_serve_each_other(tmp_path):
    here = Platform.parse(remote_look.platform_name())
    other = "darwin-arm64-macos-14.2" if here.system == "linux" else "darwin-riscv-macos-14.2"
    with pytest.raises(LlmhostError) as failed:
        bundle.build(machine(platform=other), tmp_path, SilentProgress())
    assert failed.value.code == "unsupported_platform"


def test_pip_is_told_every_name_of_every_older_system():
    names = pip_platforms(Platform.parse("linux-x86_64-glibc-2.17"))
    assert names[0] == "manylinux_2_17_x86_64"
    assert {"manylinux2014_x86_64", "manylinux1_x86_64", "manylinux_2_5_x86_64"} <= set(names)
    assert not {"manylinux_2_18_x86_64"} & set(names)
    assert pip_platforms(Platform.parse("darwin-arm64-macos-14.2")) == []
    argv = wheels.download_arguments(OTHER, Path("lock"), Path("wheels"))
    assert "--require-hashes" in argv
    assert argv[argv.index("--python-version") + 1] == "3.99"


@pytest.mark.parametrize(
    ("tags", "there", "runs"),
    [
        (["py3-none-any"], "linux-x86_64-glibc-2.17", True),
        (["cp311-cp311-manylinux_2_28_x86_64"], "linux-x86_64-glibc-2.17", False),
        (["cp311-cp311-manylinux_2_28_x86_64", "cp311-cp311-manylinux1_x86_64"], "linux-x86_64-glibc-2.17", True),
        (["cp311-cp311-manylinux2014_x86_64"], "linux-x86_64-glibc-2.17", True),
        (["cp311-cp311-linux_x86_64"], "linux-x86_64-glibc-2.31", False),  # built here
        (["cp311-cp311-linux_x86_64"], "linux-x86_64-glibc-2.41", True),
        ([], "linux-x86_64-glibc-2.31", False),
        (["cp311-cp311-manylinux1_x86_64"], "linux-aarch64-glibc-2.36", False),
        (["py3-none-any"], "linux-aarch64-glibc-2.36", True),
    ],
)
def test_what_is_installed_here_is_copied_where_it_runs(tags, there, runs):
    here = Platform.parse("linux-x86_64-glibc-2.36")
    assert runs_on(tags, here, Platform.parse(there)) is runs


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LlmhostError) as failed:
        bundle.build(machine(), tmp_path / "file" / "cache", SilentProgress())
    assert (failed.value.code, "XDG_CACHE_HOME" in failed.value.hint) == ("cache_unwritable", True)
