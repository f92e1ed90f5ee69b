"""A real machine behind an instance: a real sshd on loopback, and the instance's onstart executed in a folder that stands for its root.

Below the machine's folder: `root` (HOME of the container and of SSH sessions), `etc/ssh` (the public host key, where an image has it),
`bin` (first on PATH: a fake `nvidia-smi`, an `ssh-keyscan` for which port 22 is this machine's sshd, and the programs a test brings),
`tmp`, `container.log`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support import process_tree
from tests.support.marketplace import container_init
from tests.support.marketplace.entrance import MODES, Entrance
from tests.support.marketplace.fake_smi import fake_smi
from tests.support.marketplace.machine import Boot, Machine, MachineMaker, folder_of
from tests.support.sshd import Sshd
from tests.support.system import processes_touching

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RUN_S = 20.0
# In a container port 22 is its own sshd, whatever port of the host leads there.
KEYSCAN = """#!/bin/sh
[ "$1 $2" = "-p 22" ] || { echo "this stands for: ssh-keyscan -p 22 HOST" >&2; exit 1; }
shift 2
PATH=%s exec ssh-keyscan -p %d "$@"
"""


def sandboxes(
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    programs: Mapping[str, str] | None = None,
    root_variable: str = "LLMHOST_ROOT",
) -> MachineMaker:
    """Makes a sandbox per instance below `folder`, which should have a short path.

    `environment` is set for the onstart and for SSH sessions, `programs` are scripts by name that come first on PATH. The variable
    `root_variable` names the machine's folder, for scripts that would otherwise write below `/`.
    """

    def make(number: int) -> Machine:
        return SandboxMachine(folder_of(folder, number), dict(environment or {}), dict(programs or {}), root_variable)

    return make


class SandboxMachine:
    """See the module. Starting and stopping it takes real time; nothing is made before the first `start`."""

    instant = False

    def __init__(self, folder: Path, environment: dict[str, str], programs: dict[str, str], root_variable: str) -> None:
        self.folder = folder
        self.root = folder / "root"
        self.starts = 0
        self.sshd: Sshd | None = None
        self._environment = environment | {root_variable: str(folder)}
        self._programs = programs
        self._lock = threading.RLock()
        self._entrances: dict[str, Entrance] = {}
        self._hurt: dict[str, tuple[str, float]] = {}
        self._init: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._keys: list[str] = []
        self._moves = 0
        self._destroyed = False

    # ── where it is ─────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def direct(self) -> tuple[str, int]:
        return self._address("direct")

    @property
    def proxy(self) -> tuple[str, int]:
        return self._address("proxy")

    def _address(self, path: str) -> tuple[str, int]:
        entrance = self._entrances.get(path)
        return entrance.address if entrance else ("127.0.0.1", 9)

    # ── its life ────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, boot: Boot) -> None:
        with self._lock:
            if self._destroyed or self._init is not None:
                return
            self._furnish(boot)
            sshd = self._open_sshd()
            self._start_init(boot, sshd)
            self.starts += 1

    def stop(self) -> None:
        with self._lock:
            self._end_init()
            if self.sshd is not None:
                self.sshd.close()

    def wipe(self) -> None:
        """A new container has a new host key too."""
        with self._lock:
            self.stop()
            shutil.rmtree(self.root, ignore_errors=True)
            (self.folder / "container.log").unlink(missing_ok=True)
            if self.sshd is not None:
                self.root.mkdir()
                self.sshd.rekey()

    def destroy(self) -> None:
        with self._lock:
            self._destroyed = True
            self.stop()
            self._end_rest()
            for entrance in self._entrances.values():
                entrance.close()
            shutil.rmtree(self.folder, ignore_errors=True)

    def processes(self) -> dict[int, str]:
        """Command line by pid of everything that belongs to it."""
        return processes_touching(self.folder)

    # ── what it is asked for ────────────────────────────────────────────────────────────────────────────────────

    def authorize(self, keys: list[str]) -> None:
        with self._lock:
            if keys != self._keys or not self.starts:
                self._keys = list(keys)
                self._let_in()

    def output(self) -> str:
        log = self.folder / "container.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def run(self, command: str) -> str:
        """`ls`, `du` or `rm` of what is below the home, which is shown as `/root`."""
        name, *arguments = shlex.split(command)
        places = [self._inside(each) if not each.startswith("-") else each for each in arguments]
        run = subprocess.run([name, *places], cwd=self.root, capture_output=True, text=True, timeout=RUN_S, check=False)
        return (run.stdout + run.stderr).replace(str(self.root), "/root")

    def _inside(self, name: str) -> str:
        """Where a path of the container is; outside of its home there is nothing."""
        path = (self.root / name.removeprefix("/root").lstrip("/")).resolve()
        return str(path if path.is_relative_to(self.root.resolve()) else self.root / "nowhere")

    def hurt(self, how: str, path: str = "both", seconds: float = 0.0) -> None:
        """A mode of `entrance` for the `direct` way, the `proxy` or both; or `wrong_host_key`, `move` (the direct address changes),
        `gpu_lost`, `kill_container` (all that onstart started dies, sshd stays), `deny` (no key is let in)."""
        if how in MODES:
            self._break_in(how, path, seconds)
            return
        with self._lock:
            actions: dict[str, Callable[[], None]] = {
                "wrong_host_key": self._rekey,
                "move": self._move,
                "gpu_lost": (self.folder / "gpu_lost").touch,
                "kill_container": self._end_init,
                "deny": lambda: self.authorize([]),
            }
            actions[how]()

    # ── inside ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _break_in(self, how: str, path: str, seconds: float) -> None:
        for each in ("direct", "proxy") if path == "both" else (path,):
            self._hurt[each] = (how, seconds)
            if each in self._entrances:
                self._entrances[each].set(how, seconds)

    def _rekey(self) -> None:
        """The address leads to another machine, say; what was printed about the host key stays as it was."""
        if self.sshd is not None:
            self.sshd.rekey()

    def _move(self) -> None:
        old = self._entrances.get("direct")
        if old is not None and self.sshd is not None:
            self._moves += 1
            self._entrances["direct"] = Entrance(("127.0.0.1", self.sshd.port), f"127.0.0.{1 + self._moves % 250}")
            old.close()

    def _furnish(self, boot: Boot) -> None:
        for name in ("root", "tmp", "bin", "etc/ssh"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        scripts = {"nvidia-smi": fake_smi(boot, self.folder / "gpu_lost"), **self._programs}
        for name, text in scripts.items():
            self._write_program(name, text)
        (self.root / "onstart.sh").write_text(boot.onstart)

    def _write_program(self, name: str, text: str) -> None:
        program = self.folder / "bin" / name
        program.write_text(text)
        program.chmod(0o755)

    def _open_sshd(self) -> Sshd:
        if self.sshd is None:
            self.sshd = Sshd(self.folder / "sshd", user_home=self.root, environment=self._visible())
        self.sshd.start()
        self._let_in()
        self._write_program("ssh-keyscan", self._programs.get("ssh-keyscan") or KEYSCAN % (PATH, self.sshd.port))
        public = self.sshd.host_key_files[0].with_suffix(".pub")
        (self.folder / "etc" / "ssh" / "ssh_host_ed25519_key.pub").write_text(public.read_text())
        for path in ("direct", "proxy"):
            if path not in self._entrances:
                self._entrances[path] = Entrance(("127.0.0.1", self.sshd.port))
                self._entrances[path].set(*self._hurt.get(path, ("ok", 0.0)))
        return self.sshd

    def _let_in(self) -> None:
        if self.sshd is not None:
            self.sshd.authorize_nobody()
            for key in self._keys:
                self.sshd.authorize(key)

    def _visible(self) -> dict[str, str]:
        """What SSH sessions see: nothing of what the instance was created with (vast facts §2.4)."""
        return {"PATH": f"{self.folder / 'bin'}:{PATH}", **self._environment}

    def _start_init(self, boot: Boot, sshd: Sshd) -> None:
        address, port = self.direct
        own = {"HOME": str(self.root), "USER": sshd.user, "SHELL": "/bin/bash", "TMPDIR": str(self.folder / "tmp")}
        known = {"PUBLIC_IPADDR": address, "VAST_TCP_PORT_22": str(port)}
        command = [sys.executable, "-I", "-S", container_init.__file__, str(self.root / "onstart.sh")]
        with (self.folder / "container.log").open("ab") as log:
            self._init = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.root,
                env={**boot.env, **known, **self._visible(), **own},
                start_new_session=True,
            )
        guard = [sys.executable, "-I", "-S", process_tree.__file__, str(self._init.pid)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, start_new_session=True)

    def _end_init(self) -> None:
        if self._init is not None and self._guard is not None:
            process_tree.kill_tree(self._init.pid)
            self._init.wait()
            self._guard.kill()  # before its stdin closes: the pid may mean another by now
            self._guard.wait()
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._init = self._guard = None

    def _end_rest(self) -> None:
        for _ in range(20):
            left = [pid for pid in self.processes() if pid != os.getpid()]
            if not left:
                return
            process_tree.send(left, 9)
