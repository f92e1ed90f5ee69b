"""The seam between a fleet and where its machines come from.

A provider offers machines and says what would serve a model on one. It changes nothing until it is asked to; what was decided goes into
the ledger as plain values, of which only `spec` is the provider's own business.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

from llmhost.core.ollama_environment import DEFAULT_CONTEXT as DEFAULT_CONTEXT

BackendName = Literal["ollama", "rehearsal"]
# With 32,768 tokens only 10,600 remain after Claude Code's first request; Ollama's documentation says the same number (facts §1.10).
COMFORTABLE_CONTEXT = 64_000


@dataclass(frozen=True, slots=True)
class Offer:
    """A machine that can be had, and its price in USD per hour. `gpu` None = not known."""

    id: str
    provider: str
    gpu: str | None
    price_usd_per_hour: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class BackendWish:
    """What the user wants served. None = the provider's choice. `pull` = the model was named on the command line, so it may be fetched."""

    backend: BackendName | None = None
    model: str | None = None
    context: int | None = None
    pull: bool = False


@dataclass(frozen=True, slots=True)
class BackendChoice:
    """What will serve, and why.

    `model` None = the backend's own (rehearsal), or not known before the backend runs (`pending`). `context` in tokens. `missing` = the
    model has to be pulled first. `fallback` = chosen for want of something better, so it is thought over again at the next `up`.
    """

    backend: BackendName
    why: str
    model: str | None = None
    context: int | None = None
    missing: bool = False
    pending: bool = False
    fallback: bool = False
    notes: tuple[str, ...] = ()
    spec: dict[str, Any] = field(default_factory=dict)


class Provider(Protocol):
    """A source of machines. `name` is what `--provider` takes."""

    name: str

    def offers(self) -> list[Offer]:
        """The machines that can be had, best first. Raises Unavailable, AuthenticationNeeded or NothingSuitable."""

    def choose(self, wish: BackendWish) -> BackendChoice:
        """What would serve the wish. Nothing is started or fetched. Raises Unavailable or UsageError."""
