"""A rented machine of the stand-in marketplace that runs the onstart script of a test."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from llmhost.onstart import phases
from llmhost.onstart.render import BootScript, render
from tests.marketplace.conftest import Api
from tests.support.system import wait_until

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ3kYk0b8x0mE9mV1Y0i6yM1x2d3f4g5h6j7k8l9m0no llmhost"
FOLDER = ".llmhost/nodes/n1"
AWHILE = 3_600
SLEEP = "sleep 1"  # what a guard of these tests does between two looks


def boot(url, **changes):
    """A script whose guard looks once a second and has no reason to end the machine."""
    usual = BootScript(node_folder=FOLDER, public_key=KEY, api_url=url, contact_s=AWHILE, guard_every_s=1)
    return replace(usual, **changes)


TOOLS = (
    *(
        "bash",
        "cat",
        "chmod",
        "cut",
        "date",
        "grep",
        "mkdir",
        "mv",
        "rm",
        "sed",
        "sh",
        "sleep",
        "stat",
        "tar",
        "tee",
        "touch",
    ),
    *("uname", "zstd", "python3", "curl", "ssh-keyscan", "setsid"),
)


def poor_tools(folder, without):
    """A folder with the programs an image has, some aside."""
    folder.mkdir()
    for name in set(TOOLS) - set(without):
        found = sys.executable if name == "python3" else shutil.which(name)
        (folder / name).symlink_to(Path(found).resolve())
    return folder


class Box:
    """One instance. `told` is what its log says of the script's last run."""

    def __init__(self, server, script):
        self.server = server
        with Api(server) as api:
            self.number = api.rent(onstart=script)
            wait_until(lambda: (api.row(self.number) or {}).get("ports"), "the instance to run", 30)
        self.machine = server.control.instance(self.number).machine
        self.root = self.machine.root
        self.guard_folder = self.root / ".llmhost" / "guard"

    @classmethod
    def of(cls, server, **changes):
        return cls(server, render(boot(server.url, **changes)))

    @property
    def told(self):
        return phases.read(self.machine.output())

    @property
    def exists(self):
        return bool(self.server.control.billing_now())

    def wait_done(self):
        wait_until(lambda: self.told.done, "the script to end", 30)
        return self

    def wait_guard(self, word="ok"):
        wait_until(lambda: (self.told.guard or "").startswith(word), f"the guard to say {word}", 30)
        return self

    def wait_gone(self):
        wait_until(lambda: not self.exists, "the machine to destroy itself", 30)

    def wait_host_keys(self):
        wait_until(lambda: self.told.host_keys, "the host key in the log", 30)
        return self

    def looked(self, times=2):
        """Wait until the guard has looked again: so what should have ended the machine by now would have."""
        for _ in range(times):
            sleeper = self.sleeper()
            wait_until(lambda sleeper=sleeper: self.sleeper() not in (None, sleeper), "the guard to look again", 30)

    def guards(self):
        """Process ids of the guards, found by their sleep; empty in the moment in which one looks."""
        groups = set()
        for pid, line in self.machine.processes().items():
            with suppress(ProcessLookupError):
                if line == SLEEP:
                    groups.add(os.getpgid(pid))
        return groups

    def guard(self):
        """The only one."""
        (found,) = wait_until(self.guards, "a guard", 20)
        return found

    def sleeper(self):
        return next((pid for pid, line in self.machine.processes().items() if line == SLEEP), None)

    def age(self, name, seconds):
        """As if the file had been touched so long ago."""
        then = time.time() - seconds
        os.utime(self.guard_folder / name, (then, then))

    def how_old(self, name):
        return time.time() - (self.guard_folder / name).stat().st_mtime

    def stop_and_start(self, meanwhile):
        with Api(self.server) as api:
            api.put(f"/api/v0/instances/{self.number}/", json={"state": "stopped"})
            wait_until(lambda: api.row(self.number)["actual_status"] == "exited", "the stop", 30)
            self.server.control.settle()
            meanwhile()
            api.put(f"/api/v0/instances/{self.number}/", json={"state": "running"})
            wait_until(lambda: self.machine.starts > 1, "the second start", 30)

    def reboot(self):
        starts = self.machine.starts
        with Api(self.server) as api:
            api.put(f"/api/v0/instances/reboot/{self.number}/", json={})
        wait_until(lambda: self.machine.starts > starts, "the second start", 30)

    def again(self):
        """Run the script once more by hand, in the container's own environment, beside what runs already."""
        init = self.machine._init.pid
        pairs = Path(f"/proc/{init}/environ").read_bytes().split(b"\0")
        env = dict(pair.split(b"=", 1) for pair in pairs if b"=" in pair)
        with (self.machine.folder / "container.log").open("ab") as log:
            command = ["bash", str(self.root / "onstart.sh")]
            subprocess.run(
                command,
                env=env,
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
                timeout=60,
            )

    def state(self):
        """The guard's last word as it is in its file."""
        return (self.guard_folder / "state").read_text().strip()

    def destroys(self):
        return self.server.control.requests("destroy")
