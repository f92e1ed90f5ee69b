"""The folder of one node: everything it needs is under it, so that several fit on one machine and removing it leaves nothing."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from llmhost.core.paths import LONGEST_SOCKET_NAME, MAX_SOCKET_PATH, Paths

# Not TMPDIR: two sessions may have different ones, and all must find the same sockets.
_STAND_IN_BASE = Path("/tmp")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things are below `folder`, which must be absolute. Nothing is created here.

    releases/DIGEST/lib  the code, once per release      current       → the release to run
    node.json            what should run (0600: a token)  state/        lock, ports, state/logs
    run/                 sockets                          ollama/ models/ home/  Ollama, when we installed it or run it
    """

    folder: Path

    @property
    def wish_file(self) -> Path:
        return self.folder / "node.json"

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def keep_file(self) -> Path:
        """What stays the same over restarts: ports, and how often a service was restarted on request."""
        return self.state_dir / "keep.json"

    @property
    def supervisor_file(self) -> Path:
        """Which release the running supervisor is of."""
        return self.state_dir / "supervisor.json"

    @property
    def python_file(self) -> Path:
        """Which Python runs the node, for a rented machine's onstart script."""
        return self.state_dir / "python"

    @property
    def turn_file(self) -> Path:
        """Locked by whoever changes what runs."""
        return self.state_dir / "turn.lock"

    @property
    def run_dir(self) -> Path:
        """The folder of the sockets; when the path is too long for one, a short stand-in named by what it stands for."""
        wished = self.folder / "run"
        if len(os.fsencode(wished)) + 1 + LONGEST_SOCKET_NAME <= MAX_SOCKET_PATH:
            return wished
        digest = hashlib.blake2b(os.fsencode(os.path.realpath(self.folder)), digest_size=5).hexdigest()
        return _STAND_IN_BASE / f"llmhost-{os.getuid()}-{digest}"

    @property
    def proxy_socket(self) -> Path:
        return self.run_dir / "proxy.sock"

    @property
    def models_dir(self) -> Path:
        return self.folder / "models"

    @property
    def home_dir(self) -> Path:
        """What our own Ollama takes for the home."""
        return self.folder / "home"

    @property
    def paths(self) -> Paths:
        """As the supervisor wants it told."""
        return Paths(config_dir=self.state_dir, state_dir=self.state_dir, runtime_dir=self.run_dir)

    def create(self) -> None:
        """Make the folders, 0700. Raises LlmhostError (`state_unwritable`, `state_unsafe`)."""
        self.paths.create()
