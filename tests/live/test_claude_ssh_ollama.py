"""The real Claude Code on the real Ollama of a node over SSH, while the node's proxy and its Ollama are restarted and killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.conftest import StackFactory
from tests.live.test_claude_ssh import QUICK, Faults, Ground
from tests.live.test_ollama_session import CONTEXT, FILLER, MODEL, call, step
from tests.support.build_ollama import ollama_binary
from tests.support.claude import result_text
from tests.support.ollama_server import OllamaServer, scripted_model
from tests.support.sshd import Sshd
from tests.support.system import processes_touching, wait_until

STEPS = ("[[one]]", "[[two]]")
SCRIPTS = {
    "default": ["hello ", "from the ", "scripted model"],
    **{
        trigger: step(number, following, call("Bash", command=f"touch mark-{number}; sleep 1; echo step-{number}"))
        for number, (trigger, following) in enumerate(zip(STEPS, (*STEPS[1:], "[[three]]"), strict=True), start=1)
    },
    "[[three]]": ["all ", "done"],
}
PROMPT = "[[one]] is what to do" + ", please" * 2 * FILLER
# The next request is on its way by then, and its prompt of some 17,000 tokens takes a CPU longer than that.
IN_THE_MIDDLE_S = 3.0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models, as a machine has it on which a model was pulled before."""
    folder = tmp_path_factory.mktemp("ollama")
    server = OllamaServer(folder).start()
    try:
        server.create(MODEL, scripted_model(SCRIPTS), renderer="qwen3-coder", parser="qwen3-coder")
    finally:
        server.stop()
    return folder / "models"


@pytest.fixture
def ground(new_stack: StackFactory, models: Path) -> Iterator[Ground]:
    """One machine with an Ollama that is not running, and a fleet on it."""
    stack = new_stack(**QUICK, XDG_CACHE_HOME=os.environ["XDG_CACHE_HOME"], LLMHOST_BACKEND="")
    tools = stack.folder("tools")
    program = tools / "ollama"
    # for a CPU: flash attention would double the time a prompt takes
    settings = f"OLLAMA_MODELS='{models}' OLLAMA_FLASH_ATTENTION=0 OLLAMA_NO_CLOUD=1 OLLAMA_NOPRUNE=1"
    program.write_text(f"#!/bin/sh\n{settings} exec '{ollama_binary()}' \"$@\"\n")
    program.chmod(0o755)
    with Sshd(stack.root / "m1", environment={"PATH": f"{tools}:{os.environ['PATH']}"}) as machine:
        stack.up_ssh(machine, more=("--backend", "ollama", "--model", MODEL, "--context", CONTEXT))
        yield Ground(stack, [machine])


def engines(machine: Sshd) -> list[int]:
    """The processes of the node's Ollama, server and runners."""
    found = processes_touching(machine.user_home)
    return [pid for pid, command in found.items() if "ollama" in command and "llmhost" not in command.split(" -m ")[0]]


@pytest.mark.timeout(400)  # twice a prompt of 17,000 tokens from its beginning, for a CPU
def test_an_agent_run_goes_on_while_the_nodes_ollama_and_proxy_are_restarted_and_killed(ground: Ground) -> None:
    stack, (machine,) = ground.stack, ground.machines
    (node,) = ground.nodes().values()
    assert (node["state"], node["backend"], node["model"]) == ("ready", "ollama", f"{MODEL}:latest")
    run_folder = stack.folder("run")

    def restart() -> None:
        before = {*engines(machine), *ground.proxies(machine)}
        assert stack.json("restart", "n1", "--ollama", "--proxy")["restarted"] == ["ollama", "proxy"]
        assert not before & {*engines(machine), *ground.proxies(machine)}

    def restart_and_kill() -> None:
        restart()
        time.sleep(IN_THE_MIDDLE_S)
        victims = [*engines(machine), *ground.proxies(machine)]
        assert len(victims) >= 2
        for pid in victims:
            os.kill(pid, signal.SIGKILL)

    faults = Faults(run_folder, [restart_and_kill], name="mark-{}")
    faults.start()
    run = stack.stream(PROMPT, "--allowedTools", "Bash", cwd=run_folder, timeout_s=330)
    faults.join(30)
    assert (faults.error, faults.done) == (None, 1)
    assert [result_text(block) for block in run.tool_results] == ["step-1", "step-2"]
    assert run.result["result"] == "all done"
    wait_until(lambda: ground.nodes()["n1"]["state"] == "ready", "the node to be ready", 60)
    stack.down()
    assert ground.left() == {"processes": {}, "sockets": [], "locks": [], "folders": []}
