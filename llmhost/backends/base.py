"""The seam between the pipeline and whatever produces answers.

A backend turns one request into *frames*: bytes of whole server-sent events of the Messages API. `generate` is an async generator; its
first item, even b"", says "accepted"; an `ApiError` before that has its own HTTP status, one after it (or an end without
`message_stop`) is a failed stream. Closing the generator cancels the work upstream.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, runtime_checkable

from llmhost.core.server_config import NodeConfig
from llmhost.messages.writer import EventWriter

HealthState = Literal["ok", "starting", "failed", "unknown"]


@dataclass(frozen=True)
class ModelInfo:
    """A served model. `context` is the window really loaded, in tokens; `digest` changes whenever answers may."""

    id: str
    digest: str
    context: int
    max_output: int
    vision: bool = False
    tools: bool = True
    thinking: bool = False
    created_at: str = "2026-01-01T00:00:00Z"

    def is_called(self, name: str) -> bool:
        """Whether that is its name, the tag `latest` given or not."""
        return name.casefold() in (self.id.casefold(), self.id.casefold().removesuffix(":latest"))

    @cached_property
    def identity(self) -> str:
        """What an answer depends on besides the request. Not the window: it decides whether there is an answer, not which."""
        return hashlib.blake2b(f"{self.id}\n{self.digest}".encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class BackendHealth:
    """What a backend knows of itself from memory. `components` are further names for `GET /health`, e.g. {"ollama": "ok"}."""

    state: HealthState
    detail: str = ""
    components: dict[str, HealthState] = field(default_factory=dict)
    retry_after: float | None = None


@dataclass(slots=True)
class Call:
    """One request on its way to a backend.

    `body` is the parsed request (never to be changed in place), `raw` the bytes as received, `writer` produces the frames of
    backends that translate. `session` is Claude Code's session id, if known.
    """

    body: dict[str, Any]
    raw: bytes
    writer: EventWriter
    headers: dict[str, str] = field(default_factory=dict)
    session: str | None = None
    model: str | None = None  # the one that must answer, by its own name; None = the main one
    served: str | None = None  # set by the backend before it accepts: `identity` of the model that really answers
    node: str | None = None  # set by a backend with several nodes: the one that answers, or is at work on it


@dataclass(slots=True)
class PrefixReuse:
    """Prompt tokens seen and, of those, how many the engine already had from the turn before."""

    prompt_tokens: int = 0
    reused_tokens: int = 0


class Backend(Protocol):
    """One source of answers. `kind` names it in metrics; `translates` is False where frames pass through untouched."""

    kind: str
    translates: bool
    node_id: str | None

    @property
    def reuse(self) -> PrefixReuse:
        """Running totals."""

    async def start(self) -> None:
        """Begin loading and watching, in the background; returns at once and raises nothing."""

    async def aclose(self) -> None:
        """End background work and connections."""

    def model(self) -> ModelInfo | None:
        """The main model, which answers whatever names no other, from memory; None while nothing is known."""

    def models(self) -> list[ModelInfo]:
        """All that can be asked for by name, the main one first, from memory."""

    def find(self, name: str) -> ModelInfo | None:
        """The one of that name (its tag given or not), from memory."""

    async def look_up(self, name: str) -> ModelInfo | None:
        """The same, for a name that is not known: looks whether there is something new, where that is quick. Raises ApiError when it

        cannot be told now.
        """

    def health(self) -> BackendHealth:
        """From memory, never from the network."""

    def estimate(self, body: dict[str, Any], model: str | None = None) -> int:
        """Prompt tokens, roughly and at once, for `message_start`. `model`: see `Call`."""

    async def count_tokens(self, body: dict[str, Any], model: str | None = None) -> tuple[int, bool]:
        """Prompt tokens, and whether the count is exact."""

    def generate(self, call: Call) -> AsyncIterator[bytes]:
        """The frames of one answer. Raises ApiError; see the module docstring."""


@dataclass(frozen=True, slots=True)
class NodeReading:
    """One node of a gateway, as `GET /internal/status` and the metrics show it.

    `state` is one of the contract's: ready, loading, degraded, draining, unreachable, failed. `breaker` is closed, open or half_open;
    `since` is when the state began (RFC 3339). `requests` counts by outcome: ok, failed, gone (the client left). `models` are the names
    of all that the node can be asked for, its main `model` among them.
    """

    id: str
    state: str
    detail: str
    in_flight: int
    breaker: str
    model: str | None
    since: str
    requests: dict[str, int] = field(default_factory=dict)
    models: tuple[str, ...] = ()


@runtime_checkable
class HasNodes(Protocol):
    """A backend that spreads its requests over nodes."""

    def set_nodes(self, nodes: Sequence[NodeConfig]) -> None:
        """These are the nodes from now on; those that are no longer among them finish what they do."""

    def nodes(self) -> list[NodeReading]:
        """From memory, in the order given."""
