"""A node with the real Ollama: found, installed or there before; its models there, or pulled from a registry of the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import threading
from pathlib import Path

import pytest

from llmhost.bootstrap import ollama, packages
from llmhost.bootstrap.machine import Machine, inspect
from llmhost.core.errors import LlmhostError, Unavailable
from tests.backends.ollama.scripts import SCRIPTS
from tests.bootstrap.place import Shown, ask, client
from tests.bootstrap.test_machine import poor_path, program
from tests.support.build_ollama import CannotBuild, ollama_binary
from tests.support.download_site import DownloadSite
from tests.support.ollama_server import OllamaServer, scripted_model
from tests.support.small_ollama import Model, SmallOllama
from tests.support.system import missing, processes_touching, wait_until

SAYS = "Hello from a model whose weights were written by hand."
SMALL = {"context": 4_096}
ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, "amd64")


@pytest.fixture(scope="session")
def binary():
    try:
        return ollama_binary()
    except CannotBuild as error:
        missing("Ollama", str(error))


@pytest.fixture(scope="session")
def models(tmp_path_factory, binary):
    """An Ollama's model folder that has `scripted`."""
    server = OllamaServer(tmp_path_factory.mktemp("models")).start()
    try:
        server.create("scripted", scripted_model(SCRIPTS), renderer="qwen3-coder", parser="qwen3-coder")
    finally:
        server.stop()
    return server.folder / "models"


@pytest.fixture
def site(models):
    with DownloadSite(models) as site:
        yield site


def with_ollama(make_place, binary):
    return make_place(environment={"PATH": f"{binary.parent}:{os.environ['PATH']}"})


def engines(place):
    return {pid: argv for pid, argv in processes_touching(place.home).items() if argv.split(" ")[0].endswith("/ollama")}


def answers(installed):
    """An answer's text, or an error's: the proxy asks after its Ollama every few seconds."""
    with client(installed) as caller:
        body = {"max_tokens": 64, "messages": [{"role": "user", "content": "hello"}]}
        answer = caller.post("/v1/messages", json=body)
    return answer.json()["content"][0]["text"] if answer.status_code == 200 else answer.text


def pick(models):
    return models[0]["name"] if models else None


def test_an_ollama_on_path_is_run_and_comes_back_whatever_dies(make_place, binary, models):
    place = with_ollama(make_place, binary)
    shutil.copytree(models, place.home / ".ollama" / "models")
    installed = place.up(backend="ollama", choose=pick, **SMALL)
    assert installed.model == "scripted:latest"
    assert any("no NVIDIA graphics card" in note for note in installed.notes) or installed.machine.gpu
    agent = place.agent(installed)
    (model,) = agent.models()
    assert (model["name"], model["tools"]) == ("scripted:latest", True)
    assert ask(installed) == SAYS
    assert not place.up(backend="ollama", choose=pick, **SMALL).changed

    url = agent.status()["ollama_url"]
    wrapper = place.child(agent, "ollama")["pid"]
    for pid in engines(place):
        os.kill(pid, signal.SIGKILL)
    place.wait_up(agent, "ollama", but=wrapper)
    wait_until(lambda: answers(installed) == SAYS, "answers as before", 30)

    os.kill(agent.status()["supervisor"]["pid"], signal.SIGKILL)
    wait_until(lambda: not engines(place), "Ollama to end with the supervisor", 30)
    agent.start(wait_s=60)
    assert agent.status()["ollama_url"] == url
    wait_until(lambda: answers(installed) == SAYS, "answers as before", 30)

    before = place.child(agent, "ollama")["pid"]
    agent.restart(["ollama"], wait_s=60)
    place.wait_up(agent, "ollama", but=before)
    lines = []
    agent.logs("ollama", 200, lines.append)
    assert any("Listening on 127.0.0.1" in line for line in lines)

    gone = agent.remove()
    assert (gone["removed"], gone["left"]) == (True, [])
    models, program = gone["kept"]
    assert models.startswith(f"the models in {place.home}/.ollama/models (")
    assert program == f"the program {binary}"
    assert not engines(place)
    assert list((place.home / ".ollama" / "models" / "blobs").iterdir())


def test_a_bare_machine_gets_ollama_and_the_model_and_the_second_time_nothing(make_place, site, binary, short_tmp):
    site.publish(short_tmp, binary, "tar.zst", ARCH)
    place = make_place()
    wish = {"backend": "ollama", "model": site.model("scripted"), "pull": True, "ollama_site": site.downloads, **SMALL}
    shown = Shown()
    installed = place.up(shown=shown, **wish)
    assert list(dict.fromkeys(shown.phases)) == ["check", "bundle", "ollama", "pull", "start", "ready"]
    for phase in ("ollama", "pull"):
        done, total = shown.transfers[phase][-1]
        assert done == total > 1_000_000
    assert (installed.did["installed"], installed.did["pulled"]) == (True, True)
    assert ask(installed) == SAYS
    own = Path(installed.folder) / "ollama"
    assert (own / "bin" / "ollama").read_bytes() == binary.read_bytes()
    assert sorted(path.name for path in Path(installed.folder).glob("ollama*")) == ["ollama"]
    assert (Path(installed.folder) / "models" / "blobs").is_dir()

    asked, shown = len(site.asked), Shown()
    again = place.up(shown=shown, **wish)
    assert not again.changed
    assert len(site.asked) == asked
    assert not shown.transfers
    gone = place.agent(again).remove()
    assert (gone["left"], gone["kept"]) == ([], [])
    assert not (place.home / ".llmhost").exists()
    assert not (place.home / ".ollama").exists()


def test_a_model_is_wanted_pulled_through_a_broken_line_unknown_and_given_up(make_place, site, binary):
    place = with_ollama(make_place, binary)
    wish = {"backend": "ollama", **SMALL}
    assert code_of(lambda: place.up(model="qwen3-coder:30b", **wish)) == "model_missing"
    assert code_of(lambda: place.up(choose=pick, **wish)) == "no_model"

    site.cut = 1
    installed = place.up(model=site.model("scripted"), pull=True, **wish)
    ranges = [line for line in site.asked if "/bytes/" in line and "bytes=" in line]
    assert any("bytes=0-" in line for line in ranges)
    assert any("bytes=0-" not in line for line in ranges), ranges

    agent = place.agent(installed)
    with pytest.raises(LlmhostError) as failed:
        agent.pull(site.model("nothing"), lambda *_: None)
    assert (failed.value.code, site.model("nothing") in failed.value.message) == ("model_unknown", True)

    shutil.rmtree(Path(installed.folder) / "models")
    agent.restart(["ollama"], wait_s=60)
    give_up_in_the_middle(place, site, installed)
    assert agent.pull(site.model("scripted"), lambda *_: None)


def code_of(call):
    with pytest.raises(LlmhostError) as failed:
        call()
    return failed.value.code


def give_up_in_the_middle(place, site, installed):
    """Hang up while a model comes in: the node's command ends too."""
    site.stall, moved = threading.Event(), threading.Event()
    puller = place.agent(installed)

    def pull():
        with pytest.raises(LlmhostError):
            puller.pull(site.model("scripted"), lambda what, done, total: moved.set() if done else None)

    thread = threading.Thread(target=pull)
    thread.start()
    assert moved.wait(30)
    place.sessions[-1].close()
    thread.join(30)
    assert not thread.is_alive()
    wait_until(lambda: not named(place, "llmhost.node pull"), "the node's pull to end", 30)
    site.stall.set()


def named(place, text):
    return [argv for argv in processes_touching(place.home).values() if text in argv]


# ── the plan ────────────────────────────────────────────────────────────────────────────────────────────────────


def machine(**facts):
    return Machine("/home/u", "/usr/bin/python3", "3.12.1", "cp312", "linux-x86_64-glibc-2.36", **facts)


def test_one_that_answers_is_used_before_one_that_is_installed():
    here = machine(ollama_url="http://127.0.0.1:11434", ollama_bin="/usr/bin/ollama", ollama_version="0.30.1")
    planned = ollama.plan(here)
    assert (planned.mode, planned.url) == ("use", "http://127.0.0.1:11434")
    assert "Ollama 0.30.1" in planned.note
    assert ollama.plan(machine(ollama_bin="/usr/bin/ollama")).mode == "serve"
    assert ollama.plan(machine()).mode == "install"


def test_what_a_node_has_is_kept():
    here = machine(ollama_url="http://127.0.0.1:11434", ollama_bin="/usr/bin/ollama")
    assert ollama.plan(here, {"mode": "serve", "bin": "/usr/bin/ollama"}).mode == "serve"
    assert ollama.plan(here, {"mode": "serve", "bin": "/gone/ollama"}).mode == "use"
    assert ollama.plan(machine(), {"mode": "serve", "bin": "/gone/ollama"}).mode == "install"


def test_the_program_and_its_version_are_found(make_place, binary):
    seen = inspect(with_ollama(make_place, binary).session())
    assert (seen.ollama_bin, seen.ollama_version, seen.ollama_url) == (str(binary), ollama.VERSION, None)


def test_one_that_was_there_before_is_used_and_left_alone(place):
    """The address is Ollama's usual one, which a test cannot have for itself: so this begins where the look has ended."""
    with SmallOllama([Model("qwen3:8b")]) as there:
        installed = place.up()
        agent = place.agent(installed)
        wish = {"server": None, "ollama": {"mode": "use", "url": there.url}, "tcp": False, "version": ""}
        agent.apply(wish)
        assert [model["name"] for model in agent.models()] == ["qwen3:8b"]
        assert agent.status()["ollama_url"] == there.url
        with pytest.raises(LlmhostError) as failed:
            agent.restart(["ollama"])
        assert "was there before llmhost" in failed.value.message
        (kept,) = agent.remove()["kept"]
        assert there.url in kept
        assert "/api/version" not in there.asked[-1:]


# ── the installation ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def stand_in(short_tmp):
    """A program that is no Ollama, a little larger than a packet."""
    return program(short_tmp / "programs", "ollama", "echo ollama version is 0.24.0\n# " + os.urandom(300_000).hex())


def install(place, site, command=None, shown=None):
    session = place.session()
    return ollama.install(
        session,
        inspect(session),
        f"{place.home}/node",
        shown or Shown(),
        command,
        site if isinstance(site, str) else site.downloads,
    )


def failure(place, site, command=None):
    with pytest.raises(LlmhostError) as failed:
        install(place, site, command)
    assert not (place.home / "node" / "ollama").exists()
    return failed.value


@pytest.mark.parametrize("kind", ["tar.zst", "tgz"])
def test_either_archive_will_do(make_place, site, stand_in, short_tmp, kind):
    place = make_place(home="a home 'of' Zoë")
    site.publish(short_tmp, stand_in, kind, ARCH)
    found = install(place, site)
    assert found == f"{place.home}/node/ollama/bin/ollama"
    assert Path(found).stat().st_mode & stat.S_IXUSR


def test_a_download_that_breaks_off_goes_on_where_it_was(place, site, stand_in, short_tmp):
    site.publish(short_tmp, stand_in, "tgz", ARCH)
    site.cut = 9
    assert isinstance(failure(place, site), Unavailable)
    site.cut = 0
    seen = len(site.asked)
    assert Path(install(place, site)).read_bytes() == stand_in.read_bytes()
    (resumed,) = [line for line in site.asked[seen:] if line.startswith("GET")]
    assert "bytes=0-" not in resumed
    assert "bytes=" in resumed


def test_an_archive_that_is_none_is_fetched_anew_the_next_time(place, site, stand_in, short_tmp):
    site.publish(short_tmp, stand_in, "tgz", ARCH)
    (file,) = site.files.values()
    good = file.read_bytes()
    file.write_bytes(b"this is a page that asks for money" * 1_000)
    assert failure(place, site).code == "ollama_install_failed"
    file.write_bytes(good)
    assert install(place, site)


def test_two_installations_at_once_do_not_write_into_one_file(place, site, stand_in, short_tmp):
    site.publish(short_tmp, stand_in, "tgz", ARCH)
    lock = place.home / "node" / "ollama.lock"
    lock.mkdir(parents=True)
    (lock / "pid").write_text(str(os.getpid()))
    assert "another installation is under way" in failure(place, site).message
    (lock / "pid").write_text("999999999")
    assert install(place, site)
    assert not lock.exists()


def test_a_node_without_network_says_so(place):
    with DownloadSite() as closed:
        address = closed.downloads
    error = failure(place, address)
    assert (error.code, type(error)) == ("node_offline", Unavailable)
    assert address in error.message


@pytest.mark.parametrize(("kind", "code"), [("curl", "no_curl"), ("zstd", "no_zstd")])
def test_a_tool_that_is_not_there_is_named(make_place, site, stand_in, short_tmp, kind, code):
    site.publish(short_tmp, stand_in, "tar.zst", ARCH)
    path = poor_path(short_tmp / "bin")
    (path / "python3").symlink_to(Path(sys.executable).resolve())
    for tool in {"curl", "zstd", "uname", "dirname", "tr", "sed", "tail", "tar", "gzip", "sleep"} - {kind}:
        if found := shutil.which(tool):
            (path / tool).symlink_to(Path(found).resolve())
    place = make_place(environment={"PATH": str(path)})
    error = failure(place, site)
    assert (error.code, kind in error.message, kind in error.hint) == (code, True, True)


def test_the_command_is_a_setting_and_its_last_words_are_told(place, site):
    said = failure(place, site, "echo one; echo 'it is closed today' >&2; exit 7")
    assert said.code == "ollama_install_failed"
    assert "exit code 7" in said.message
    assert "it is closed today" in said.message
    assert failure(place, site, "true").code == "ollama_install_failed"
    assert failure(place, site, "echo 'tar: x: No space left on device' >&2; exit 2").code == "disk_full"
    shown = Shown()
    own = 'd=$LLMHOST_OLLAMA_DIR/bin; mkdir -p "$d"; echo progress 5 10; cp /bin/true "$d/ollama"; test "$OLLAMA_VERSION" = 0.24.0'
    assert install(place, site, own, shown) == f"{place.home}/node/ollama/bin/ollama"
    assert shown.transfers["ollama"] == [(5, 10)]


def test_too_little_space_for_it_is_told_before(place, site):
    small = machine(disk_free_mb=900)
    with pytest.raises(LlmhostError) as failed:
        ollama.install(place.session(), small, "/nowhere", Shown())
    assert (failed.value.code, "4096 MB, and 900 MB" in failed.value.message) == ("disk_full", True)


def test_without_the_program_zstd_the_nodes_own_packages_unpack(make_place, site, stand_in, short_tmp):
    site.publish(short_tmp, stand_in, "tar.zst", ARCH)
    path = poor_path(short_tmp / "bin")
    (path / "python3").symlink_to(Path(sys.executable).resolve())
    for tool in ("curl", "uname", "dirname", "tr", "sed", "tail", "tar", "gzip", "sleep"):
        if found := shutil.which(tool):
            (path / tool).symlink_to(Path(found).resolve())
    place = make_place(environment={"PATH": str(path)})
    lib = Path(place.home) / "node" / "current" / "lib" / "backports"
    lib.mkdir(parents=True)
    for distribution in packages.closure():
        for name, file in packages.files_of(distribution):
            if name.startswith("backports/"):
                (lib.parent / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, lib.parent / name)
    assert install(place, site) == f"{place.home}/node/ollama/bin/ollama"
