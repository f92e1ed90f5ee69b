"""The whole local stack, brought up, used and taken down as a user does it: by the `llmhost` command."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx

from tests.support.claude import TIMEOUT_S, Run, TookTooLong, home_environment, run
from tests.support.sshd import Sshd
from tests.support.system import poll, processes_touching

LLMHOST = str(Path(sys.executable).with_name("llmhost"))


class Stack:
    """One installation in a folder of its own, with as many settings as given through `LLMHOST_…` names."""

    def __init__(self, **settings: str) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="lh-"))  # short: Unix sockets live below it
        self.home = self.root / "home"
        self.work = self.root / "work"
        self.work.mkdir()
        self.state_dir = self.root / "state" / "llmhost"
        self.runtime_dir = self.root / "run" / "llmhost"
        (self.root / "run").mkdir(mode=0o700)
        self.env = {
            **home_environment(self.home),
            "XDG_CONFIG_HOME": str(self.root / "config"),
            "XDG_STATE_HOME": str(self.root / "state"),
            "XDG_RUNTIME_DIR": str(self.root / "run"),
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            **settings,
        }

    def argv(self, *args: str) -> list[str]:
        return [LLMHOST, *args]

    def llmhost(
        self, *args: str, cwd: Path | None = None, stdin: str = "", timeout_s: float = TIMEOUT_S, **env: str
    ) -> Run:
        """Run one `llmhost` command to its end."""
        try:
            return run(self.argv(*args), {**self.env, **env}, cwd or self.work, stdin, timeout_s)
        except TookTooLong as error:
            raise TookTooLong(f"{error}\n{self.logs()}") from None

    def json(self, *args: str, exit_code: int = 0) -> dict[str, Any]:
        """The `data` of a command run with `--json`."""
        done = self.llmhost("--json", *args).expect(exit_code)
        envelope: dict[str, Any] = done.json
        assert envelope["schema"] == "llmhost/1"
        return dict(envelope["data"])

    def up(self, *args: str) -> dict[str, Any]:
        return self.json("up", "--provider", "local", "--yes", *args)

    def up_ssh(self, *machines: Sshd, more: tuple[str, ...] = ()) -> dict[str, Any]:
        """`up --provider ssh` on these machines, with the key that lets a test in; one more call for each, as a key is one for all."""
        data: dict[str, Any] = {}
        for machine in machines:
            where = ("--host", str(machine.target), "--identity", str(machine.client_key))
            data = self.json("up", "--provider", "ssh", "--yes", *where, *more)
        return data

    def status(self) -> dict[str, Any]:
        return self.json("status")

    def claude(
        self, *args: str, cwd: Path | None = None, stdin: str = "", timeout_s: float = TIMEOUT_S, **env: str
    ) -> Run:
        """`llmhost claude ARGS…` in the work folder."""
        return self.llmhost("claude", *args, cwd=cwd, stdin=stdin, timeout_s=timeout_s, **env)

    def stream(self, prompt: str, *args: str, cwd: Path | None = None, timeout_s: float = TIMEOUT_S, **env: str) -> Run:
        """`claude -p PROMPT` with every event on standard output; the run must succeed."""
        flags = ("--output-format", "stream-json", "--verbose")
        return self.claude("-p", prompt, *flags, *args, cwd=cwd, timeout_s=timeout_s, **env).expect()

    @property
    def url(self) -> str:
        return str(self.status()["gateway"]["url"])

    @property
    def token(self) -> str:
        return (self.state_dir / "gateway.token").read_text().strip()

    def client(self) -> httpx.Client:
        """An HTTP client of the gateway that knows its token."""
        return httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {self.token}"}, timeout=30)

    def folder(self, name: str) -> Path:
        """A new folder to run `claude` in."""
        folder = self.root / "folders" / name
        folder.mkdir(parents=True)
        return folder

    def logs(self) -> str:
        files = sorted((self.state_dir / "logs").glob("*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-6000:]}" for file in files)

    def down(self) -> dict[str, Any]:
        return self.json("down", "--yes")

    def remove(self) -> None:
        """Take everything down, whatever state the test left it in, and delete the folder."""
        subprocess.run(
            self.argv("down", "--yes"),
            env=self.env,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
        left = self.leftovers()
        for pid in left["processes"]:
            subprocess.run(["kill", "-9", str(pid)], stderr=subprocess.DEVNULL)
        shutil.rmtree(self.root, ignore_errors=True)
        assert not left["processes"], f"still running after `llmhost down`: {left['processes']}"

    def leftovers(self) -> dict[str, Any]:
        """What is still there of a fleet that was taken down: processes, sockets, held locks."""
        sockets = [str(path) for path in self.root.rglob("*") if path.is_socket()]
        return {
            "processes": self._processes(),
            "sockets": sockets,
            "locks": [str(path) for path in self.root.rglob("*.lock") if _held(path)],
        }

    def _processes(self) -> dict[int, str]:
        """Processes of this stack; those that are just ending get two seconds."""
        poll(lambda: not processes_touching(self.root), 2)
        return processes_touching(self.root)


def _held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False
