"""The real Claude Code on nodes over SSH, while everything between it and them breaks."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.live.conftest import StackFactory
from tests.support.claude import result_text
from tests.support.sshd import Sshd
from tests.support.stack import Stack
from tests.support.system import poll, processes_touching, wait_until

# Everything that takes its time, several times as fast.
QUICK = {
    "LLMHOST_TUNNEL_ECHO_EVERY": "0.5",
    "LLMHOST_TUNNEL_ECHO_WITHIN": "1.5",
    "LLMHOST_TUNNEL_BACKOFF_FIRST": "0.1",
    "LLMHOST_TUNNEL_BACKOFF_WANTED": "0.5",
    "LLMHOST_TUNNEL_LOGIN_EVERY": "0.2",
    "LLMHOST_TUNNEL_PROBE_EVERY": "0.5",
    "LLMHOST_TUNNEL_DRAIN": "2",
    "LLMHOST_TUNNEL_WOKE_AFTER": "3",
    "LLMHOST_NODE_DRAIN_S": "2",
    "LLMHOST_NODE_CONNECT_TIMEOUT_S": "5",
}
FROZEN_S = 7.0
TOOL_CALLS = 10


class Ground:
    """An installation and two machines it serves on."""

    def __init__(self, stack: Stack, machines: list[Sshd]) -> None:
        self.stack = stack
        self.machines = machines

    def nodes(self) -> dict[str, dict]:
        return {node["id"]: node for node in self.stack.status()["fleet"]["nodes"]}

    def supervisor(self) -> int:
        return int(self.stack.status()["supervisor"]["pid"])

    def links(self) -> list[int]:
        """Pids of the `ssh` processes that carry the links."""
        return [
            pid for pid, command in processes_touching(self.stack.runtime_dir).items() if command.startswith("ssh ")
        ]

    def proxies(self, machine: Sshd) -> list[int]:
        found = processes_touching(machine.user_home)
        return [pid for pid, command in found.items() if "-m llmhost.proxy" in command]

    def left(self) -> dict[str, object]:
        """What is still there of the fleet, here and on the machines, their sshds aside."""
        poll(lambda: not self._processes(), 5)
        folders = [str(path) for one in self.machines for path in one.user_home.glob(".llmhost/nodes/*/*")]
        left = self.stack.leftovers()
        return {"processes": self._processes(), "sockets": left["sockets"], "locks": left["locks"], "folders": folders}

    def _processes(self) -> dict[int, str]:
        return {pid: line for pid, line in processes_touching(self.stack.root).items() if "sshd" not in line}


@pytest.fixture
def ground(new_stack: StackFactory) -> Iterator[Ground]:
    stack = new_stack(**QUICK, XDG_CACHE_HOME=os.environ["XDG_CACHE_HOME"])
    with ExitStack() as machines:
        one = machines.enter_context(Sshd(stack.root / "m1"))
        two = machines.enter_context(Sshd(stack.root / "m2"))
        two.authorize(one.client_key.with_suffix(".pub").read_text())
        hosts = ("--host", str(one.target), "--host", str(two.target), "--identity", str(one.client_key))
        stack.json("up", "--provider", "ssh", "--yes", *hosts)
        yield Ground(stack, [one, two])


def agent_run(marks: Path, steps: int, pause_s: float) -> str:
    """A prompt of `steps` tool calls, each leaving a mark and taking a while."""
    calls = []
    for step in range(1, steps + 1):
        command = f"touch {marks}/{step}; sleep {pause_s}; echo step-{step}"
        calls.append(f"@rehearse tool Bash {json.dumps({'command': command})}")
    return "\n".join([*calls, "@rehearse say all ten are done"])


class Faults(threading.Thread):
    """Does one fault after each mark, in their order; what went wrong with a fault itself is in `error`.

    `name` is what the file of mark number {} is called in `marks`.
    """

    def __init__(self, marks: Path, faults: list[Callable[[], None]], *, name: str = "{}") -> None:
        super().__init__(daemon=True)
        self._marks, self._faults, self._named = marks, faults, name
        self.done = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            for number, fault in enumerate(self._faults, start=1):
                wait_until((self._marks / self._named.format(number)).exists, f"step {number}", 90)
                fault()
                self.done = number
        except BaseException as error:  # noqa: BLE001 - told by the test
            self.error = error


def test_ten_tool_calls_through_every_fault_and_nothing_left_behind(ground: Ground) -> None:
    stack, (one, two) = ground.stack, ground.machines
    marks = stack.folder("marks")

    def kill(*pids: int) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def freeze() -> None:
        pids = [ground.supervisor(), *ground.links()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(FROZEN_S)
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    def destroy() -> None:
        two.stop()
        two.close()

    faults = Faults(
        marks,
        [
            lambda: kill(*ground.links()),
            lambda: [machine.kill_sessions() for machine in (one, two)] and None,
            one.restart,
            lambda: kill(*ground.proxies(one)),
            freeze,
            two.restart,
            lambda: kill(*ground.proxies(two)),
            destroy,
        ],
    )
    faults.start()
    run = stack.stream(
        agent_run(marks, TOOL_CALLS, 0.5), "--allowedTools", "Bash", cwd=stack.folder("run"), timeout_s=110
    )
    assert run.result["result"] == "all ten are done"
    assert [result_text(block) for block in run.tool_results] == [f"step-{step}" for step in range(1, TOOL_CALLS + 1)]
    faults.join(20)
    assert (faults.error, faults.done) == (None, 8)
    nodes = ground.nodes()
    assert (nodes["n1"]["state"], nodes["n2"]["state"]) == ("ready", "unreachable")
    assert nodes["n2"]["tunnel"]["state"] == "reconnecting"
    assert nodes["n2"]["tunnel"]["reason"] == "connection_refused"
    down = stack.llmhost("--json", "down", "--yes").expect(1)
    assert [error["code"] for error in down.json["errors"]] == ["left_behind"], "the one that was destroyed is named"
    stack.json("down", "--yes", "--force")
    left = ground.left()
    assert (left["processes"], left["sockets"], left["locks"]) == ({}, [], [])
    assert not list(one.user_home.glob(".llmhost/nodes/*/*"))


def test_after_kill_9_of_everything_here_the_next_session_goes_on_and_down_leaves_nothing(ground: Ground) -> None:
    for pid in [*ground.links(), ground.supervisor()]:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not processes_touching(ground.stack.runtime_dir), "the end of links and gateway", 20)
    assert ground.stack.claude("-p", "@rehearse say back again").expect().stdout.strip() == "back again"
    ground.stack.down()
    assert ground.left() == {"processes": {}, "sockets": [], "locks": [], "folders": []}


@pytest.mark.parametrize("victim", ["node supervisor", "node proxy"])
def test_kill_9_on_a_node_leaves_nothing_there_after_down(ground: Ground, victim: str) -> None:
    module = {"node supervisor": "-m llmhost.supervisor ", "node proxy": "-m llmhost.proxy"}[victim]
    for machine in ground.machines:
        for pid, command in processes_touching(machine.user_home).items():
            if module in command:
                os.kill(pid, signal.SIGKILL)
    ground.stack.down()
    assert ground.left() == {"processes": {}, "sockets": [], "locks": [], "folders": []}
