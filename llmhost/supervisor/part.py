"""What a supervisor may do beside running children: the point where the operator's one gets its links."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llmhost.supervisor.children import Children
from llmhost.supervisor.logfile import EventLog


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a part may use: folders, the log, the children, and whom to tell that there are other processes."""

    run_dir: Path
    log_dir: Path
    events: EventLog
    children: Children
    on_pid: Callable[[], None]


class Part(Protocol):
    """Lives as long as the supervisor. No method may wait for the network; `view` until its deadline (monotonic) for fresh figures."""

    def start(self) -> None: ...

    def prepare(self, message: dict[str, Any], keep: bool) -> Callable[[], dict[str, Any]] | None:
        """Read what an `apply` asks of the part; what is returned does it and gives fields of the reply, None = it asks nothing.

        Raises KeyError, TypeError, ValueError or LlmhostError when the message is wrong.
        """
        ...

    def ask_anew(self) -> None:
        """`view` follows: ask for fresh figures now."""
        ...

    def view(self, deadline: float) -> dict[str, Any]:
        """Fields of the reply to `status`."""
        ...

    def wanted(self) -> dict[str, Any]:
        """Fields of the reply to `wanted`."""
        ...

    def handle(self, operation: str, message: dict[str, Any]) -> dict[str, Any] | None:
        """The reply to an operation of the part's own; None for an unknown one."""
        ...

    def pids(self) -> list[int]:
        """Its processes."""
        ...

    def close(self) -> None:
        """End everything, within a second or so. The children are gone already."""
        ...


class NoPart:
    """Children only."""

    def start(self) -> None:
        """Nothing to do."""

    def prepare(self, message: dict[str, Any], keep: bool) -> Callable[[], dict[str, Any]] | None:
        return None

    def ask_anew(self) -> None:
        """Nobody to ask."""

    def view(self, deadline: float) -> dict[str, Any]:
        return {}

    def wanted(self) -> dict[str, Any]:
        return {}

    def handle(self, operation: str, message: dict[str, Any]) -> dict[str, Any] | None:
        return None

    def pids(self) -> list[int]:
        return []

    def close(self) -> None:
        """Nothing to end."""


MakePart = Callable[[Surroundings], Part]


def no_part(here: Surroundings) -> Part:
    return NoPart()
