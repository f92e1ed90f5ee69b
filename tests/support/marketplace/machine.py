"""What stands behind an instance: nothing at all (`PaperMachine`), or a real machine on loopback (`sandbox.SandboxMachine`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Boot:
    """What a container is started with. `env` has what the marketplace itself adds; `onstart` may be empty."""

    number: int
    onstart: str
    env: dict[str, str] = field(default_factory=dict)
    gpu_name: str = "RTX 4090"
    gpu_ram_mb: int = 24564
    num_gpus: int = 1
    driver: str = "570.124.06"


class Machine(Protocol):
    """`direct` and `proxy` are the two addresses its sshd is reached at, from the first `start` on.

    `instant` says that nothing takes time, so that the market need not leave it to a thread.
    """

    instant: bool

    @property
    def direct(self) -> tuple[str, int]: ...
    @property
    def proxy(self) -> tuple[str, int]: ...
    def start(self, boot: Boot) -> None:
        """Start the container: its onstart runs, every time. Returns once it can be reached."""

    def stop(self) -> None:
        """Stop the container; its disk stays."""

    def wipe(self) -> None:
        """Delete its disk."""

    def destroy(self) -> None:
        """End everything it ever started, and delete it. Does nothing the second time."""

    def authorize(self, keys: list[str]) -> None:
        """Exactly these public keys are let in from the next login on."""

    def output(self) -> str:
        """What the container printed since it was created."""

    def run(self, command: str) -> str:
        """What one of the few allowed commands prints."""

    def hurt(self, how: str, path: str = "both", seconds: float = 0.0) -> None:
        """Break the way in, or the machine; see `entrance.MODES` and `sandbox.SandboxMachine.hurt`."""


MachineMaker = Callable[[int], Machine]


class PaperMachine:
    """An instance nobody can log in to: addresses of the documentation's ranges, and a log of its starts."""

    instant = True

    def __init__(self, number: int) -> None:
        self.number = number
        self.running = False
        self.starts = 0
        self.keys: list[str] = []
        self.hurts: list[tuple[str, str]] = []
        self._output = ""
        self._moved = 0

    @property
    def direct(self) -> tuple[str, int]:
        return f"203.0.113.{42 + self._moved}", 30_000 + self.number % 20_000 + self._moved

    @property
    def proxy(self) -> tuple[str, int]:
        return "ssh3.vast.ai", 10_000 + self.number % 20_000

    def start(self, boot: Boot) -> None:
        self.running, self.starts = True, self.starts + 1
        self._output += f"container {boot.number} started, {len(boot.onstart.encode())} bytes of onstart\n"

    def stop(self) -> None:
        self.running = False

    def wipe(self) -> None:
        self._output = ""

    def destroy(self) -> None:
        self.running = False

    def authorize(self, keys: list[str]) -> None:
        self.keys = list(keys)

    def output(self) -> str:
        return self._output

    def run(self, command: str) -> str:
        return f"{command.split()[0]}: cannot access: No such file or directory\n"

    def hurt(self, how: str, path: str = "both", seconds: float = 0.0) -> None:
        self.hurts.append((how, path))
        self._moved += how == "move"


def paper(number: int) -> Machine:
    return PaperMachine(number)


def folder_of(root: Path, number: int) -> Path:
    """Where a machine keeps its things: short, because sockets live below."""
    return root / f"m{number}"
