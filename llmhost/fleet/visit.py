"""Going to a node: logging in with what it was set up with, and its agent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmhost.bootstrap.agent import Agent
from llmhost.core.ledger import NodeRecord
from llmhost.core.paths import Paths
from llmhost.fleet.hosts import Place, place_of
from llmhost.fleet.links import pins_of
from llmhost.ssh.identity import identities
from llmhost.ssh.session import Session

if TYPE_CHECKING:
    from llmhost.core.settings import Settings


def _nobody(fingerprint: str) -> None:
    """Nobody wants to know."""


@dataclass(slots=True)
class Visits:
    """Opens sessions and keeps them to be closed together."""

    settings: Settings
    paths: Paths
    open: list[Session] = field(default_factory=list)

    def go(self, place: Place, on_first_key: Callable[[str], None] = _nobody) -> Session:
        """Log in. Raises SshFailure."""
        session = Session.connect(
            place.target,
            identities(self.paths, place.identity),
            pins_of(self.paths),
            place.alias,
            timeout_s=self.settings.node_connect_timeout_s,
            on_first_key=on_first_key,
        )
        self.open.append(session)
        return session

    def to(self, node: NodeRecord) -> Session:
        """Log in to a recorded node. Raises SshFailure."""
        return self.go(place_of(node))

    def agent(self, node: NodeRecord) -> Agent:
        """The agent of a recorded node. Raises SshFailure."""
        return Agent(self.to(node), node.spec["python"], node.spec["folder"])

    def close(self) -> None:
        """Leave all. Also the way to interrupt what is under way in another thread."""
        while self.open:
            self.open.pop().close()

    def __enter__(self) -> Visits:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
