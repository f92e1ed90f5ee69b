"""A machine whose key only an ssh-agent holds: from `up` to `down`, and over the end of the agent."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.cli.test_over_ssh import QUICK
from tests.support.sshd import Sshd
from tests.support.stack import Stack
from tests.support.system import processes_touching, program, wait_until

INSTALL = "openssh-client"


@contextmanager
def agent_with(socket: Path, key: Path) -> Iterator[dict[str, str]]:
    """An agent of the test's own that holds the key; what a shell below it has in its environment."""
    with subprocess.Popen([program("ssh-agent", INSTALL), "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as agent:
        try:
            wait_until(socket.exists, "the agent", 20)
            environment = {"SSH_AUTH_SOCK": str(socket)}
            add = [program("ssh-add", INSTALL), "-q", str(key)]
            subprocess.run(add, check=True, env={**os.environ, **environment}, timeout=30)
            yield environment
        finally:
            agent.kill()


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(LLMHOST_BACKEND="rehearsal", XDG_CACHE_HOME=os.environ["XDG_CACHE_HOME"], **QUICK)
    yield made
    made.remove()


def link(stack: Stack) -> dict:
    return stack.status()["fleet"]["nodes"][0]["tunnel"]


def kill_link(stack: Stack) -> None:
    for pid, command in processes_touching(stack.runtime_dir).items():
        if command.startswith("ssh "):
            os.kill(pid, signal.SIGKILL)


def test_the_agents_key_serves_from_up_to_down_and_in_the_next_login(stack: Stack) -> None:
    with ExitStack() as ending:
        machine = ending.enter_context(Sshd(stack.root / "m1"))
        key = stack.root / "key"
        os.replace(machine.client_key, key)
        with agent_with(stack.root / "agent-1", key) as shell:
            up = ("--json", "up", "--provider", "ssh", "--yes", "--host", str(machine.target))
            assert stack.llmhost(*up, **shell).expect().json["data"]["nodes"][0]["state"] == "ready"
            before = link(stack)
            kill_link(stack)
            wait_until(
                lambda: link(stack)["state"] == "up" and link(stack)["reconnects"] > before["reconnects"],
                "the link to come back by the agent",
                20,
            )
            assert stack.llmhost("ssh", "n1", "--", "echo", "in", **shell).expect().stdout == "in\n"
            restarted = stack.llmhost("--json", "restart", "n1", **shell).expect().json["data"]
            assert (restarted["restarted"], restarted["node"]["state"]) == (["proxy"], "ready")
            assert stack.llmhost("--json", "up", "--yes", **shell).expect().json["data"]["changed"] is False
            assert stack.llmhost("--json", "tunnel").expect().json["errors"] == [], "a shell without an agent"
            assert link(stack)["state"] == "up"
        kill_link(stack)
        wait_until(lambda: link(stack)["state"] == "failed", "the agent to be missed", 20)
        assert link(stack)["reason"] == "auth_refused"
        with agent_with(stack.root / "agent-2", key) as shell:
            opened = stack.llmhost("--json", "tunnel", **shell).expect().json["data"]
            assert [tunnel["state"] for tunnel in opened["tunnels"]] == ["up"], "the next login has another agent"
            stack.llmhost("down", "--yes", **shell).expect()
        assert not list(machine.user_home.glob(".llmhost/nodes/*"))
