"""`python -m llmhost.node` as a process: what it answers, and what it leaves running."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from llmhost.node import logs
from llmhost.supervisor import logfile
from llmhost.supervisor.loopback import request
from tests.support.system import processes_touching, wait_until

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
        """The last line it prints."""
        process = self.popen(*arguments)
        text = told if isinstance(told, str) else json.dumps(told) if told is not None else ""
        out, err = process.communicate(text, timeout=100)
        assert process.returncode == code, (out, err)
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


def test_everything_ends_when_the_supervisor_is_killed_and_stop_finds_nothing_left(node):
    pid = node.ask("apply", "--wait", "60", told=WISH)["pid"]
    os.kill(pid, signal.SIGKILL)
    assert node.ask("stop") == {"stopped": True, "left": []}
    wait_until(lambda: not node.processes(), "the proxy to end", 20)


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
