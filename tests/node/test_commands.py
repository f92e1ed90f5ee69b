"""`python -m llmhost.node` as a process: what it answers, and what it leaves running."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from llmhost.core.errors import LlmhostError
from llmhost.node import logs, supervision
from llmhost.node.layout import Layout
from llmhost.supervisor import logfile
from llmhost.supervisor.loopback import request
from tests.node.test_pull import stalling
from tests.support.small_ollama import Model, SmallOllama
from tests.support.system import missing, processes_touching, wait_until

TOKEN = "a-token-that-nobody-guesses"
WISH = {"server": {"name": "node-n1", "token": TOKEN, "backend": {"kind": "rehearsal", "node_id": "n1"}}}


class Node:
    """A node's folder on this machine, and its commands."""

    def __init__(self, folder):
        self.home, self.folder = folder, folder / "n"
        self.environ = {**os.environ, "HOME": str(folder)}

    def popen(self, *arguments, **more):
        command, *rest = arguments
        argv = [sys.executable, "-P", "-m", "llmhost.node", command, "--folder", str(self.folder), *rest]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(argv, env=self.environ, text=True, cwd="/", **{**pipes, **more})

    def ask(self, *arguments, told=None, code=0):
        """The last line it prints. `code` None = any."""
        process = self.popen(*arguments)
        text = told if isinstance(told, str) else json.dumps(told) if told is not None else ""
        out, err = process.communicate(text, timeout=100)
        assert code in (None, process.returncode), (out, err)
        assert "Traceback" not in err
        return json.loads(out.strip().splitlines()[-1])

    def answer(self):
        body = {"max_tokens": 50, "messages": [{"role": "user", "content": "hello"}]}
        address = f"unix:{self.folder}/run/proxy.sock"
        return request(address, "POST", "/v1/messages", token=TOKEN, body=body, timeout_s=30).status

    def processes(self):
        return processes_touching(self.folder)


@pytest.fixture
def node(short_tmp):
    node = Node(short_tmp)
    yield node
    node.ask("stop")
    assert not node.processes()


@pytest.mark.parametrize("told", ["", "no json", "[]", '{"server": {"token": "a-token-that-nobody-guesses"}}'])
def test_nonsense_is_an_error_in_json_and_starts_nothing(node, told):
    answer = node.ask("apply", told=told, code=1)
    assert answer["error"]["code"] == "bad_wish"
    assert TOKEN not in json.dumps(answer)
    assert not node.processes()


def test_before_it_is_told_anything(node):
    assert node.ask("status")["children"] == []
    assert node.ask("start", code=1)["error"]["code"] == "nothing_wished"
    assert node.ask("models", code=1)["error"]["code"] == "no_ollama"
    assert node.ask("pull", "x", code=1)["error"]["code"] == "no_ollama"
    assert node.ask("stop") == {"stopped": True, "left": []}
    assert node.ask("remove") == {"removed": True, "left": [], "kept": []}


def test_what_runs_finds_the_systems_programs_whatever_the_sessions_path(node):
    program = node.home / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 'NVIDIA L4, 0, 1, 23034'\n")
    program.chmod(0o755)
    node.environ["PATH"] = str(program.parent)
    pid = node.ask("apply", "--wait", "60", told=WISH)["pid"]
    (path,) = [line for line in Path(f"/proc/{pid}/environ").read_text().split("\0") if line.startswith("PATH=")]
    assert path.removeprefix("PATH=").split(":")[0] == str(program.parent)
    assert {"/usr/bin", "/bin", "/usr/local/nvidia/bin", "/usr/lib/wsl/lib"} <= set(path.split(":"))


def test_many_at_once_make_one_supervisor_and_one_proxy(node):
    with ThreadPoolExecutor(4) as pool:
        answers = [
            one.result() for one in [pool.submit(node.ask, "apply", "--wait", "60", told=WISH) for _ in range(4)]
        ]
    assert len({answer["pid"] for answer in answers}) == 1
    assert {answer["did"]["supervisor"] for answer in answers} == {"started", "kept"}
    assert node.answer() == 200
    assert len([argv for argv in node.processes().values() if "llmhost.proxy" in argv]) == 1


def test_a_supervisor_of_an_unknown_release_is_replaced_and_a_frozen_one_too(node):
    first = node.ask("apply", "--wait", "60", told=WISH)
    (node.folder / "state" / "supervisor.json").write_text("{}")
    second = node.ask("apply", "--wait", "60", told=WISH)
    assert (second["did"]["supervisor"], second["pid"] != first["pid"]) == ("replaced", True)
    assert node.answer() == 200

    os.kill(second["pid"], signal.SIGSTOP)
    assert node.ask("status", code=1)["error"]["code"] == "supervisor_silent"
    assert node.ask("stop") == {"stopped": True, "left": []}
    assert not node.processes()
    assert node.ask("start", "--wait", "60")["did"]["supervisor"] == "started"
    assert node.answer() == 200


def test_an_upgrade_waits_for_a_quiet_moment_and_the_node_answers_meanwhile(node):
    node.ask("apply", "--wait", "60", told=WISH)
    (node.folder / "state" / "supervisor.json").write_text("{}")  # as after a push
    began = threading.Event()

    def stream():
        messages = [{"role": "user", "content": "@rehearse words 40; pace 100"}]
        told = {"max_tokens": 200, "stream": True, "messages": messages}
        way = httpx.HTTPTransport(uds=f"{node.folder}/run/proxy.sock")
        url, ours = "http://127.0.0.1/v1/messages", {"authorization": f"Bearer {TOKEN}"}
        with (
            httpx.Client(transport=way, headers=ours, timeout=60) as caller,
            caller.stream("POST", url, json=told) as answer,
        ):
            return [began.set() or line for line in answer.iter_lines()]

    with ThreadPoolExecutor(2) as pool:
        streaming = pool.submit(stream)
        assert began.wait(20)
        upgrading = pool.submit(node.ask, "apply", "--wait", "60", told=WISH)
        while not streaming.done():
            try:
                assert node.answer() == 200
            except OSError:  # the change came, so the answer under way has just ended
                streaming.result(2)
            time.sleep(0.1)
        assert "event: message_stop" in streaming.result()
        assert upgrading.result()["did"]["supervisor"] == "replaced"
    assert node.answer() == 200


def test_everything_ends_when_the_supervisor_is_killed_and_stop_finds_nothing_left(node):
    pid = node.ask("apply", "--wait", "60", told=WISH)["pid"]
    os.kill(pid, signal.SIGKILL)
    assert node.ask("stop") == {"stopped": True, "left": []}
    wait_until(lambda: not node.processes(), "the proxy to end", 20)


def test_whoever_waits_while_the_node_is_removed_builds_nothing_on_its_ruins(node):
    layout = Layout(node.folder)
    began, pool = threading.Event(), ThreadPoolExecutor(1)

    def wait_for_the_turn():
        began.set()
        with supervision.turn(layout):
            return "got it"

    with pool:
        with supervision.turn(layout):
            waiting = pool.submit(wait_for_the_turn)
            assert began.wait(20)
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
            shutil.rmtree(node.folder)
        failed = waiting.exception(20)
    assert isinstance(failed, LlmhostError)
    assert failed.code == "node_not_installed"
    assert not node.folder.exists()


def test_removed_and_started_at_once_it_is_there_whole_or_not_at_all(node):
    for _ in range(2):
        node.ask("apply", told=WISH)
        with ThreadPoolExecutor(3) as pool:
            removing = pool.submit(node.ask, "remove")
            starting = [pool.submit(node.ask, "start", "--wait", "60", code=None) for _ in range(2)]
            assert removing.result()["left"] == []
            refused = [one.result()["error"]["code"] for one in starting if "error" in one.result()]
        assert set(refused) <= {"node_not_installed", "nothing_wished"}
        node.ask("remove")
        assert not node.folder.exists()
        assert not node.processes()


def test_ollama_gets_another_port_when_a_stranger_has_taken_its_own(node):
    wish = {"ollama": {"mode": "serve", "bin": "/bin/false"}}
    url = node.ask("apply", told=wish)["ollama_url"]
    wait_until(lambda: node.ask("status")["children"][0]["restarts"], "it to have ended", 30)
    assert node.ask("apply", told=wish)["ollama_url"] == url
    with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))):
        again = node.ask("apply", told=wish)
    assert again["ollama_url"] != url
    assert again["did"]["replaced"] == ["ollama"]


def test_what_removing_leaves_is_named_with_its_size(node):
    models = node.home / ".ollama" / "models"
    models.mkdir(parents=True)
    with (models / "blob").open("wb") as file:
        file.truncate(3_200_000_000)
    node.ask("apply", told={"ollama": {"mode": "serve", "bin": "/bin/false"}})
    kept = node.ask("remove")["kept"]
    assert kept == [f"the models in {models} (3.2 GB)", "the program /bin/false"]
    node.ask("apply", told={"ollama": {"mode": "use", "url": "http://127.0.0.1:1"}})
    (kept,) = node.ask("remove")["kept"]
    assert "pulled" in kept


def test_an_unwritable_folder_is_named(node, short_tmp):
    (short_tmp / "n").write_text("a file where the folder should be")
    assert node.ask("apply", told=WISH, code=1)["error"]["code"] == "state_unwritable"
    (short_tmp / "n").unlink()


def test_a_reader_of_the_log_ends_with_whoever_reads_it(node):
    node.ask("apply", "--wait", "60", told=WISH)
    reader = node.popen("logs", "--source", "supervisor", "--follow", "--lines", "3")
    assert "line" in json.loads(reader.stdout.readline())
    reader.stdout.close()
    reader.wait(20)
    reader.stdin.close()
    assert "Traceback" not in reader.stderr.read()
    reader.stderr.close()


@pytest.fixture
def small_disk(node):
    """The node's folder is a disk of its own, of 2 MiB; called, it is full."""
    if os.geteuid() != 0:
        missing("a disk of the test's own", "run the tests as root, who may mount one")
    node.folder.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", node.folder], check=True)

    def fill():
        with contextlib.suppress(OSError), (node.folder / "big").open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    yield fill
    node.ask("stop")
    subprocess.run(["umount", "-l", node.folder], check=True)


def test_a_full_disk_is_named_and_what_was_told_before_still_starts(node, small_disk):
    node.ask("apply", "--wait", "60", told=WISH)
    assert node.ask("stop")["left"] == []
    small_disk()
    changed = {**WISH, "server": {**WISH["server"], "log_level": "warning"}}
    assert node.ask("apply", told=changed, code=1)["error"]["code"] == "disk_full"
    assert not list(node.folder.glob(".node.json.*"))
    assert node.ask("start", "--wait", "60")["children"][0]["state"] == "up"
    assert node.answer() == 200
    assert node.ask("stop")["left"] == []


def test_a_pull_that_stalls_ends_with_whoever_waits_for_it(node):
    with stalling([([{"status": "pulling manifest"}], "silent")]) as (url, pulls):
        node.ask("apply", told={"ollama": {"mode": "use", "url": url}})
        puller = node.popen("pull", "new:1b")
        assert json.loads(puller.stdout.readline()) == {"status": "pulling manifest", "completed": 0, "total": None}
        puller.stdout.close()
        assert puller.wait(30) == 1
        assert len(pulls) == 1
    puller.stdin.close()
    puller.stderr.close()


def test_a_log_is_followed_over_its_rotation(tmp_path):
    path = tmp_path / "proxy.log"
    path.write_text("first\nsecond\n")
    lines = logs.follow(path, 1, lambda: False)
    assert next(lines) == "second"
    with path.open("a") as file:
        file.write("third\nhal")
    assert next(lines) == "third"
    with path.open("a") as file:
        file.write("f\n")
    assert next(lines) == "half"
    assert logfile.rotate(path, cap_bytes=10)
    with path.open("a") as file:
        file.write("after\n")
    assert next(lines) == "after"


def test_models_are_listed_and_deleted_but_never_the_served_one(node):
    with SmallOllama([Model("main:8b"), Model("old:1b", size=9)]) as ollama:
        ollama_wish = {"mode": "use", "url": ollama.url}
        backend = {"kind": "ollama", "node_id": "n1", "model": "main:8b"}
        node.ask(
            "apply", "--wait", "60", told={"server": {**WISH["server"], "backend": backend}, "ollama": ollama_wish}
        )
        told = node.ask("models")
        assert ([one["name"] for one in told["models"]], told["served"]) == (["main:8b", "old:1b"], "main:8b")
        assert node.ask("rm", "old:1b") == {"removed": True, "freed": 9}
        assert node.ask("rm", "old:1b") == {"removed": False, "freed": 0}
        assert node.ask("rm", "MAIN:8b", code=1)["error"]["code"] == "model_in_use"
        assert list(ollama.models) == ["main:8b"]
        node.ask("stop")
