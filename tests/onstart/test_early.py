"""Ollama and the model before anybody logs in, and how the bootstrap over SSH takes them over."""

from __future__ import annotations

import os
import threading

import pytest

from llmhost.bootstrap import ollama
from llmhost.bootstrap.install import Wish, bootstrap
from llmhost.bootstrap.machine import inspect
from llmhost.node import early
from llmhost.node.layout import Layout
from llmhost.onstart.render import EarlyOllama
from tests.backends.ollama.scripts import SCRIPTS
from tests.bootstrap.place import TOKEN, Shown
from tests.onstart.box import FOLDER, Box
from tests.support.build_ollama import CannotBuild, ollama_binary
from tests.support.download_site import DownloadSite
from tests.support.ollama_server import OllamaServer, scripted_model
from tests.support.system import missing, processes_touching, wait_until

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64")
# Tells what it is asked, and where; `pull` works the second time.
STAND_IN = """#!/bin/sh
echo "$1 $2 host=$OLLAMA_HOST models=$OLLAMA_MODELS alive=$OLLAMA_KEEP_ALIVE prune=$OLLAMA_NOPRUNE home=$HOME" >>"$LLMHOST_ROOT/asked"
case $1 in
  serve) exec sleep 900 ;;
  pull) [ -e "$LLMHOST_ROOT/tried" ] || { touch "$LLMHOST_ROOT/tried"; exit 1; } ;;
  --version) echo "ollama version is 0.24.0" ;;
esac
"""


@pytest.fixture
def site():
    with DownloadSite() as site:
        yield site


@pytest.fixture
def program(short_tmp):
    """An Ollama that only notes what it is asked; large enough to be broken off."""
    path = short_tmp / "ollama"
    path.write_text(STAND_IN + "# " + os.urandom(100_000).hex())
    path.chmod(0o755)
    return path


def early_with(site, **changes):
    return EarlyOllama(**{"version": "0.24.0", "site": site.downloads, "env": {"OLLAMA_KEEP_ALIVE": "-1"}, **changes})


def folder(box):
    return box.root / FOLDER


def asked(box):
    path = box.machine.folder / "asked"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def wait_phase(box, phase):
    wait_until(lambda: phase in box.told.phases, f"the phase {phase} in {box.machine.output()}", 60)


def test_it_is_installed_where_the_bootstrap_looks_and_the_model_is_pulled(rent, site, program, short_tmp):
    site.publish(short_tmp, program, "tar.zst", ARCH)
    box = rent(ollama=early_with(site, model="qwen3:8b"))
    wait_phase(box, "pulled")
    assert sorted(box.told.phases) == ["begun", "done", "ollama", "pull", "pulled"]
    at = folder(box)
    assert (at / "ollama" / "bin" / "ollama").read_bytes() == program.read_bytes()
    assert sorted(path.name for path in at.glob("ollama*")) == ["ollama"]
    port = 20_000 + box.number % 9_999
    where = [f"host=127.0.0.1:{port}", f"models={at}/models", "alive=-1", "prune=1", f"home={at}/home"]
    serve, *pulls = asked(box)
    assert serve == ["serve", *where]
    assert pulls == [["pull", "qwen3:8b", *where]] * 2
    wait_until(lambda: "sleep 900" not in box.machine.processes().values(), "the server of the pull to end", 20)
    assert not early.end(Layout(at))


def test_the_next_start_finds_all_of_it(rent, site, program, short_tmp):
    site.publish(short_tmp, program, "tar.zst", ARCH)
    box = rent(ollama=early_with(site, model="qwen3:8b"))
    wait_phase(box, "pulled")
    (box.root / ".ollama" / "models").mkdir(parents=True)  # where a node's own Ollama would look then
    loaded = len(site.asked)
    box.reboot()
    wait_until(lambda: box.machine.output().count("PHASE pulled") == 2, "the second pull", 60)
    assert "ollama" not in box.told.phases
    assert len(site.asked) == loaded
    assert asked(box)[-1][3] == f"models={box.root}/.ollama/models"


def test_one_that_is_there_is_used(open_market, site, program):
    server = open_market(programs={"ollama": program.read_text()})
    box = Box.of(server, ollama=early_with(site, model="qwen3:8b"))
    wait_phase(box, "pulled")
    assert "ollama" not in box.told.phases
    assert site.asked == []
    assert not (folder(box) / "ollama").exists()


def test_the_installer_can_be_any_command(rent, site, program):
    command = f'mkdir -p "$LLMHOST_OLLAMA_DIR" && cp {program} "$LLMHOST_OLLAMA_DIR/ollama" && test "$OLLAMA_VERSION" = 0.24.0; exit'
    box = rent(ollama=early_with(site, install=command))
    wait_until((folder(box) / "ollama" / "ollama").exists, "the program", 30)
    wait_until(lambda: not (folder(box) / "ollama.lock").exists(), "the end of the installation", 30)
    assert box.told.phases[:1] == ("begun",)
    assert not {"pull", "ollama-later"} & set(box.told.phases)
    assert site.asked == []


def test_what_cannot_be_installed_is_left_to_the_bootstrap(rent, site):
    box = rent(ollama=early_with(site, model="qwen3:8b")).wait_guard()
    wait_phase(box, "ollama-later")
    assert not list(folder(box).glob("ollama.lock"))
    assert not (folder(box) / "ollama").exists()


def test_it_is_not_begun_twice_and_ends_with_all_it_started(rent, site, program, short_tmp):
    site.publish(short_tmp, program, "tar.zst", ARCH)
    box = rent(ollama=early_with(site, model="qwen3:8b"))
    wait_until(lambda: asked(box), "the server", 30)
    begun = (folder(box) / "early").read_text()
    box.again()
    assert (folder(box) / "early").read_text() == begun
    assert early.end(Layout(folder(box)))
    assert not early.end(Layout(folder(box)))
    assert "sleep 900" not in box.machine.processes().values()
    assert [each[0] for each in asked(box)].count("serve") == 1
    assert box.wait_guard().exists


def test_only_its_own_process_is_ended(short_tmp):
    (short_tmp / "early").write_text(f"{os.getpid()} (bash) " + " ".join("0" * 50))
    assert not early.end(Layout(short_tmp))
    (short_tmp / "early").write_text("rubbish")
    assert not early.end(Layout(short_tmp))


# ── together with the bootstrap ─────────────────────────────────────────────────────────────────────────────────────


def test_the_bootstrap_waits_for_an_installation_that_is_under_way(rent, site, program, short_tmp, log_in):
    site.publish(short_tmp, program, "tar.zst", ARCH)
    site.stall = threading.Event()
    box = rent(ollama=early_with(site)).wait_done()
    wait_until((folder(box) / "ollama.lock" / "onstart").exists, "the installation to begin", 30)
    session, shown = log_in(box), Shown()
    found = []

    def install():
        machine = inspect(session, FOLDER)
        found.append(ollama.install(session, machine, str(folder(box)), shown, site=site.downloads))

    waiting = threading.Thread(target=install)
    waiting.start()
    wait_until(lambda: shown.transfers.get("ollama"), "the bootstrap to see it", 30)
    site.stall.set()
    waiting.join(60)
    assert found == [f"{folder(box)}/ollama/bin/ollama"]
    assert len([line for line in site.asked if line.startswith("GET")]) == 1


def test_one_whose_holder_is_gone_is_not_waited_for(rent, site, program, short_tmp, log_in):
    site.publish(short_tmp, program, "tar.zst", ARCH)
    box = rent().wait_done()
    lock = folder(box) / "ollama.lock"
    lock.mkdir(parents=True)
    for name in ("pid", "onstart"):
        (lock / name).write_text("999999999")
    session = log_in(box)
    place = str(folder(box))
    assert ollama.install(session, inspect(session, FOLDER), place, Shown(), site=site.downloads).startswith(place)


@pytest.fixture(scope="module")
def real():
    try:
        return ollama_binary()
    except CannotBuild as error:
        missing("Ollama", str(error))


@pytest.fixture(scope="module")
def models(tmp_path_factory, real):
    server = OllamaServer(tmp_path_factory.mktemp("models")).start()
    try:
        server.create("scripted", scripted_model(SCRIPTS), renderer="qwen3-coder", parser="qwen3-coder")
    finally:
        server.stop()
    return server.folder / "models"


def test_the_node_takes_over_what_is_half_pulled(open_market, real, models, bundles, log_in):
    """The real Ollama: the node's own goes on where the early one was ended, and its supervisor watches over it."""
    with DownloadSite(models) as site:
        site.stall = threading.Event()
        server = open_market(environment={"PATH": f"{real.parent}:/usr/bin:/bin:/usr/sbin:/sbin"})
        model = site.model("scripted")
        box = Box.of(server, ollama=early_with(site, model=model))
        partial = wait_until(lambda: half_pulled(folder(box)), "half of the model", 60)
        (server_before,) = engines(box)
        wish = Wish("ollama", TOKEN, "n1", model, 4_096, pull=True, ollama_env={"OLLAMA_NOPRUNE": "1"})
        session, shown, done = log_in(box), Shown(), []
        coming = threading.Thread(target=lambda: done.append(bootstrap(session, FOLDER, wish, shown, bundles)))
        coming.start()
        wait_until(lambda: engines(box) and server_before not in engines(box), "the node's own server", 60)
        site.stall.set()
        coming.join(90)
        assert done[0].did["pulled"] is True
        ranges = [line for line in site.asked if partial.name.removeprefix("sha256-").removesuffix("-partial") in line]
        assert "bytes=0-" in next(line for line in ranges if "bytes=" in line)
        assert "bytes=0-" not in ranges[-1]
        assert "pulled" not in box.told.phases
        assert len(engines(box)) == 1


def half_pulled(at):
    """A file of the model that has some of its bytes."""
    files = [path for path in at.glob("models/blobs/*-partial") if path.stat().st_blocks * 512 > 1_000_000]
    return files[0] if files else None


def engines(box):
    """Servers of Ollama by process id."""
    return [
        pid
        for pid, line in processes_touching(box.root).items()
        if line.endswith("ollama serve") and "lifeline" not in line
    ]
