"""Where things are kept: configuration, state, sockets. The layout is fixed by the contract (XDG on every system)."""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from llmhost.core.errors import LlmhostError

# sockaddr_un.sun_path holds 104 bytes on macOS and 108 on Linux; a control master of OpenSSH appends 17 more to its path.
MAX_SOCKET_PATH = 104 - 17 - 1
LONGEST_SOCKET_NAME = len("node-0123456789.sock")


@dataclass(frozen=True, slots=True)
class Paths:
    """Folders and files of one installation (one state directory = one supervisor and one gateway)."""

    config_dir: Path
    state_dir: Path
    runtime_dir: Path

    @classmethod
    def from_environment(cls, environ: dict[str, str] | None = None) -> Paths:
        """Read `XDG_CONFIG_HOME`, `XDG_STATE_HOME` and `XDG_RUNTIME_DIR`; nothing is created."""
        env = os.environ if environ is None else environ
        home = Path(env.get("HOME") or Path.home())
        config = Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "llmhost"
        state = Path(env.get("XDG_STATE_HOME") or home / ".local" / "state") / "llmhost"
        return cls(config, state, _runtime_dir(env.get("XDG_RUNTIME_DIR"), state))

    @property
    def config_file(self) -> Path:
        return self.config_dir / "config.toml"

    @property
    def installation_id_file(self) -> Path:
        return self.config_dir / "installation-id"

    @property
    def gateway_token_file(self) -> Path:
        return self.state_dir / "gateway.token"

    @property
    def ledger_file(self) -> Path:
        return self.state_dir / "ledger.sqlite3"

    @property
    def log_dir(self) -> Path:
        return self.state_dir / "logs"

    @property
    def supervisor_lock(self) -> Path:
        return self.state_dir / "supervisor.lock"

    @property
    def control_socket(self) -> Path:
        return self.runtime_dir / "supervisor.sock"

    def node_socket(self, node_id: str) -> Path:
        """The Unix socket that leads to a node's proxy."""
        return self.runtime_dir / f"node-{node_id}.sock"

    def log_file(self, name: str) -> Path:
        return self.log_dir / f"{name}.log"

    def create(self) -> None:
        """Make the state, log and runtime folders, 0700. Raises LlmhostError (`state_unwritable`) with the way out."""
        for folder in (self.state_dir, self.log_dir, self.runtime_dir):
            _private_dir(folder)


def _runtime_dir(xdg_runtime: str | None, state: Path) -> Path:
    wished = Path(xdg_runtime) / "llmhost" if xdg_runtime else state
    if len(os.fsencode(wished)) + 1 + LONGEST_SOCKET_NAME <= MAX_SOCKET_PATH:
        return wished
    # A path too long for sun_path gets a short stand-in, the same one every time, named by what it stands for.
    digest = hashlib.blake2b(os.fsencode(wished), digest_size=5).hexdigest()
    return Path(tempfile.gettempdir()) / f"llmhost-{os.getuid()}-{digest}"


def _private_dir(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = folder.lstat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
            raise LlmhostError(
                f"{folder} does not belong to you, so no socket or secret may be put there.",
                hint="Set XDG_STATE_HOME and XDG_RUNTIME_DIR to folders of your own.",
                code="state_unsafe",
            )
        if stat.S_IMODE(info.st_mode) != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        raise LlmhostError(
            f"cannot use {folder}: {error.strerror or error}.",
            hint="Free disk space or make the folder writable, or point XDG_STATE_HOME and XDG_RUNTIME_DIR elsewhere.",
            code="state_unwritable",
        ) from error
