"""Where things are kept: configuration, state, sockets. The layout is fixed by the contract (XDG on every system)."""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from llmhost.core.errors import LlmhostError

# sockaddr_un.sun_path holds 104 bytes on macOS and 108 on Linux; room is left for the 17 that a control master of OpenSSH would append.
MAX_SOCKET_PATH = 104 - 17 - 1
LONGEST_SOCKET_NAME = len("node-0123456789.sock")  # a link's own sockets (tunnel.sockets) are shorter

_DEFAULT_STATE = Path(".local") / "state"
# Not TMPDIR: two shells of one user may have different ones, and both must find the same socket.
_STAND_IN_BASE = Path("/tmp")


@dataclass(frozen=True, slots=True)
class Paths:
    """Folders and files of one installation (one state directory = one supervisor and one gateway)."""

    config_dir: Path
    state_dir: Path
    runtime_dir: Path

    @classmethod
    def from_environment(cls, environ: dict[str, str] | None = None) -> Paths:
        """Read `XDG_CONFIG_HOME`, `XDG_STATE_HOME` and `XDG_RUNTIME_DIR` (a relative one is ignored, as its specification says).

        Nothing is created.
        """
        env = os.environ if environ is None else environ
        home = Path(env.get("HOME") or Path.home())
        config = (_xdg(env, "XDG_CONFIG_HOME") or home / ".config") / "llmhost"
        state = (_xdg(env, "XDG_STATE_HOME") or home / _DEFAULT_STATE) / "llmhost"
        return cls(config, state, _runtime_dir(_xdg(env, "XDG_RUNTIME_DIR"), state))

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
        for folder in (self.state_dir, self.log_dir):
            _private_dir(folder, may_be_link=True)
        if self.runtime_dir.name == _digest(Path(os.path.realpath(self.state_dir))):
            _private_dir(self.runtime_dir.parent)
        _private_dir(self.runtime_dir)


def _xdg(env: Mapping[str, str], name: str) -> Path | None:
    value = env.get(name)
    return Path(value) if value and Path(value).is_absolute() else None


def _runtime_dir(xdg_runtime: Path | None, state: Path) -> Path:
    """Where the sockets of one state directory are, under whichever name it is called."""
    real = Path(os.path.realpath(state))
    wished = xdg_runtime / "llmhost" if xdg_runtime else real
    if xdg_runtime and real != _default_state():
        # Another state directory is another installation: it must not answer on this user's usual sockets.
        wished /= _digest(real)
    if len(os.fsencode(wished)) + 1 + LONGEST_SOCKET_NAME <= MAX_SOCKET_PATH:
        return wished
    # A path too long for sun_path gets a short stand-in, the same one every time, named by what it stands for.
    return _STAND_IN_BASE / f"llmhost-{os.getuid()}-{_digest(wished)}"


def _digest(path: Path) -> str:
    return hashlib.blake2b(os.fsencode(path), digest_size=5).hexdigest()


def _default_state() -> Path | None:
    """The state directory of this user's real home, whatever HOME says; None for a user the system does not know."""
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return None
    return Path(os.path.realpath(Path(home) / _DEFAULT_STATE / "llmhost"))


def _private_dir(folder: Path, *, may_be_link: bool = False) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        info = folder.lstat()
        if may_be_link and stat.S_ISLNK(info.st_mode) and info.st_uid == os.getuid():
            info = folder.stat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
            raise _unsafe(folder, info)
        if stat.S_IMODE(info.st_mode) != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        raise LlmhostError(
            f"cannot use {folder}: {error.strerror or error}.",
            hint="Free disk space or make the folder writable, or point XDG_STATE_HOME and XDG_RUNTIME_DIR elsewhere.",
            code="state_unwritable",
        ) from error


def _unsafe(folder: Path, info: os.stat_result) -> LlmhostError:
    kind = "is a symbolic link" if stat.S_ISLNK(info.st_mode) else "does not belong to you"
    return LlmhostError(
        f"{folder} {kind}, so no socket or secret may be put there.",
        hint="Set XDG_STATE_HOME and XDG_RUNTIME_DIR to folders of your own.",
        code="state_unsafe",
    )
