"""T23 of the tunnel facts §5: whatever is done to a link for a while, nothing is left of it and nothing grows.

`LLMHOST_TESTS_SOAK_S` makes it last longer, `LLMHOST_TESTS_SOAK_SEED` repeats another row of faults.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from llmhost.supervisor.client import connect
from llmhost.supervisor.launch import ensure_supervisor
from tests.support.installation import installation
from tests.support.system import processes_touching, wait_until
from tests.tunnel.rig import answers, until_answer

SECONDS = float(os.environ.get("LLMHOST_TESTS_SOAK_S", "18"))
SEED = int(os.environ.get("LLMHOST_TESTS_SOAK_SEED", "4"))
WARM_UP = 4  # faults before the first measure: imports and buffers that come once
CALLERS = 3
GROWTH = 1.10


@dataclass(frozen=True)
class Measure:
    """Of the supervisor process."""

    files: int
    threads: int
    rss_kb: int


class Soak:
    """A supervisor with one link, callers that never stop asking, and faults."""

    def __init__(self, place, rig):
        self.place, self.rig = place, rig
        place.paths.create()
        self.spec = rig.spec(local=str(place.paths.node_socket("n1")))
        with ensure_supervisor(place.paths, module="llmhost.tunnel.supervisor") as client:
            client.ask("apply", links=[self.spec.as_dict()])
        self.pid = place.supervisor_pid()
        self.random = random.Random(SEED)
        self.status_times: list[float] = []
        self.served = 0
        self.done: Counter[str] = Counter()
        self._over = threading.Event()
        self._callers = [threading.Thread(target=self._call, daemon=True) for _ in range(CALLERS)]

    def ask(self, operation, **fields):
        with connect(self.place.paths.control_socket) as client:
            return client.ask(operation, **fields)

    def status(self):
        began = time.monotonic()
        reply = self.ask("status")
        self.status_times.append(time.monotonic() - began)
        return reply["links"][0]

    def _call(self):
        while not self._over.wait(0.05):
            self.served += answers(self.spec.local, timeout_s=2.0) is not None

    def start(self):
        for caller in self._callers:
            caller.start()

    def stop(self):
        self._over.set()
        for caller in self._callers:
            caller.join(10)

    # faults

    def kill_sessions(self):
        self.rig.sshd.kill_sessions()

    def kill_ssh(self):
        for pid in self.ssh_pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def freeze(self):
        self.rig.sshd.freeze_sessions()
        time.sleep(self.random.uniform(0.1, 2.0))
        self.rig.sshd.thaw()

    def freeze_for_good(self):
        self.rig.sshd.freeze_sessions()
        until_answer(self.spec.local)
        self.rig.sshd.thaw()

    def restart_sshd(self):
        self.rig.sshd.restart()

    def restart_proxy(self):
        self.rig.node.stop()
        time.sleep(self.random.uniform(0.0, 0.5))
        self.rig.node.start()

    def kick(self):
        for _ in range(20):
            self.ask("kick")

    def refresh(self):
        self.ask("refresh")

    def remove_name(self):
        Path(self.spec.local).unlink(missing_ok=True)

    def fault(self):
        """A random one, and then an answer over the link."""
        name = self.random.choice(FAULTS)
        self.done[name] += 1
        getattr(self, name)()
        self.status()
        until_answer(self.spec.local)
        self.status()
        time.sleep(self.random.uniform(0.0, 0.6))  # some come before all is well again, some later

    # measures

    def ssh_pids(self):
        return [pid for pid, line in processes_touching(self.place.root).items() if line.startswith("ssh ")]

    def at_rest(self):
        """The link is up, with one connection and the files of one."""
        files = list(self.place.paths.runtime_dir.iterdir())
        return self.status()["state"] == "up" and len(self.ssh_pids()) == 1 and len(files) == 3

    def measure(self):
        wait_until(self.at_rest, "a link that is up, with nothing left of others", 30)
        process = Path(f"/proc/{self.pid}")
        lines = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        return Measure(len(list((process / "fd").iterdir())), int(lines["Threads"]), int(lines["VmRSS"].split()[0]))


FAULTS = (
    *("kill_sessions", "kill_ssh", "freeze", "freeze_for_good", "restart_sshd"),
    *("restart_proxy", "kick", "refresh", "remove_name"),
)


@pytest.fixture
def soak(rig):
    with installation() as place:
        made = Soak(place, rig)
        try:
            yield made
        finally:
            made.stop()


def test_t23_after_random_faults_nothing_has_grown_and_nothing_is_left(soak):
    soak.start()
    for _ in range(WARM_UP):
        soak.fault()
    before = soak.measure()
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        soak.fault()
    after = soak.measure()
    told = f"{before} then {after} after {dict(soak.done)}, {soak.served} answers"
    assert soak.place.supervisor_pid() == soak.pid, told
    assert after.files <= before.files + 2, told  # a caller's connection may be open just now
    assert after.threads <= before.threads * GROWTH + 1, told
    assert after.rss_kb <= before.rss_kb * GROWTH, told
    assert sorted(soak.status_times)[int(len(soak.status_times) * 0.9)] < 0.5, told
    assert max(soak.status_times) < 0.5 + 1.0, told
    assert soak.served > 20, told
    assert sum(soak.done.values()) > WARM_UP + 3, told
