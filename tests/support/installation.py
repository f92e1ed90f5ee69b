"""A whole installation of llmhost in a temporary folder: its own configuration, state and sockets, and nothing left after it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from pathlib import Path

from llmhost.core.paths import Paths
from llmhost.core.settings import load_settings
from llmhost.supervisor import lock
from llmhost.supervisor.client import connect
from llmhost.supervisor.launch import end_supervisor
from llmhost.supervisor.process import alive


class Installation:
    """`environ` is what a command of this installation is started with."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environ = {
            "HOME": str(root / "home"),
            "XDG_CONFIG_HOME": str(root / "c"),
            "XDG_STATE_HOME": str(root / "s"),
            "XDG_RUNTIME_DIR": str(root / "r"),
        }
        for folder in self.environ.values():
            Path(folder).mkdir(mode=0o700, parents=True)
        self.paths = Paths.from_environment(self.environ)

    def settings(self, **flags):
        """As a command started here would load them; `flags` are the command line's."""
        return load_settings({"provider": "local", **flags}, environ=self.environ, cwd=self.root)

    def children(self) -> list[dict]:
        """What the supervisor says of its children; none when it does not run."""
        client = connect(self.paths.control_socket)
        if client is None:
            return []
        with client:
            return client.ask("status")["children"]

    def child(self, name: str) -> dict:
        return next((one for one in self.children() if one["name"] == name), {"state": "unknown", "pid": None})

    def supervisor_pid(self) -> int:
        client = connect(self.paths.control_socket)
        assert client is not None, "no supervisor"
        with client:
            return client.pid

    def end(self) -> None:
        """Stop whatever still runs."""
        holder = lock.read_holder(self.paths.supervisor_lock)
        client = connect(self.paths.control_socket)
        if client is not None:
            with client:
                end_supervisor(client, timeout_s=10)
        if holder is not None and alive(holder.pid) and lock.is_locked(self.paths.supervisor_lock):
            with contextlib.suppress(ProcessLookupError):
                os.kill(holder.pid, signal.SIGKILL)


@contextlib.contextmanager
def installation(folder_length: int = 0):
    """A fresh one. Its folder is short, because a socket's path may have 104 bytes only; `folder_length` makes it long."""
    root = Path(tempfile.mkdtemp(prefix="llmh-", dir="/tmp"))
    deep = root / ("x" * folder_length) if folder_length else root
    deep.mkdir(exist_ok=True)
    made = Installation(deep)
    try:
        yield made
    finally:
        made.end()
        if made.paths.runtime_dir.is_relative_to(root) is False:
            shutil.rmtree(made.paths.runtime_dir, ignore_errors=True)
        shutil.rmtree(root, ignore_errors=True)
