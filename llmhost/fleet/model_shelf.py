"""The models on the disk of one node, wherever it is: on this machine Ollama is asked itself, elsewhere the node's agent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from llmhost.core.errors import LlmhostError, Unavailable
from llmhost.core.ledger import NodeRecord
from llmhost.core.model_room import free_bytes, models_folder, refuse_beyond
from llmhost.core.ollama_models import same_model
from llmhost.fleet.desired import is_remote
from llmhost.fleet.visit import Visits
from llmhost.providers.ollama_api import OllamaApi

if TYPE_CHECKING:
    from llmhost.bootstrap.agent import Agent

OnTransfer = Callable[[str, int, int | None], None]
# While it fetches, Ollama sends many lines a second whether or not bytes arrive.
STALL_S = 180.0


class Shelf(Protocol):
    """The models of one node. Methods raise LlmhostError, SshFailure."""

    def rows(self) -> list[dict[str, Any]]:
        """A row of `llmhost.core.ollama_models.row` for each."""

    def free(self) -> int | None:
        """Bytes that are free for others; None when that is not known. To be asked after `rows`."""

    def pull(self, model: str, on_transfer: OnTransfer) -> bool:
        """Fetch one; False when it was there. Raises NothingSuitable (`model_too_big`) before what cannot fit is fetched."""

    def remove(self, model: str) -> int | None:
        """Delete one; the bytes it had, None when it was not there."""


def shelf_of(node: NodeRecord, visits: Visits) -> Shelf:
    """Raises LlmhostError (`no_ollama`) for a node without Ollama, SshFailure."""
    if node.backend != "ollama":
        raise LlmhostError(
            f"{node.id} has no Ollama: no model is behind its answers.",
            hint="llmhost up --backend ollama",
            code="no_ollama",
        )
    return RemoteShelf(visits.agent(node)) if is_remote(node) else LocalShelf(OllamaApi(node.spec["ollama_url"]))


@dataclass(slots=True)
class RemoteShelf:
    """By the node's agent, which notices a pull that stalls, and a disk that is too small."""

    agent: Agent
    _free: int | None = None

    def rows(self) -> list[dict[str, Any]]:
        told = self.agent.shelf()
        self._free = told.get("disk_free")
        rows: list[dict[str, Any]] = told["models"]
        return rows

    def free(self) -> int | None:
        return self._free

    def pull(self, model: str, on_transfer: OnTransfer) -> bool:
        return self.agent.pull(model, on_transfer)

    def remove(self, model: str) -> int | None:
        told = self.agent.remove_model(model)
        return int(told["freed"]) if told["removed"] else None


@dataclass(slots=True)
class LocalShelf:
    """By Ollama's own API. `stall_s`: a pull of which nothing arrives for so long is given up; what was fetched is kept."""

    api: OllamaApi
    stall_s: float = STALL_S

    def rows(self) -> list[dict[str, Any]]:
        return self.api.shelf()

    def free(self) -> int | None:
        return free_bytes(models_folder())

    def pull(self, model: str, on_transfer: OnTransfer) -> bool:
        if any(same_model(one.name, model) for one in self.api.models()):
            return False
        self.api.pull(model, _Watched(model, on_transfer, self.free, self.stall_s))
        return True

    def remove(self, model: str) -> int | None:
        return self.api.remove(model)


@dataclass(slots=True)
class _Watched:
    """Passes a pull's figures on; ends one that cannot fit at its first figure, and one that has stalled."""

    model: str
    on_transfer: OnTransfer
    free: Callable[[], int | None]
    stall_s: float
    _total: int = 0
    _seen: tuple[str, int] = ("", -1)
    _moved_at: float = field(default_factory=time.monotonic)

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if total and total > self._total:
            self._total = total
            refuse_beyond(self.model, total - done, self.free())
        if (what, done) != self._seen:
            self._seen, self._moved_at = (what, done), time.monotonic()
        elif time.monotonic() - self._moved_at > self.stall_s:
            raise Unavailable(
                f"nothing of {self.model!r} arrived for {self.stall_s:.0f} s.",
                hint="Check the network and try again: what was fetched is kept.",
                code="pull_stalled",
            )
        self.on_transfer(what, done, total)
