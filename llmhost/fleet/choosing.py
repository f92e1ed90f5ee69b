"""Which node a command means."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmhost.core.errors import UsageError
from llmhost.core.ledger import NodeRecord
from llmhost.core.paths import Paths
from llmhost.fleet.commit import no_fleet
from llmhost.fleet.plan import recorded

if TYPE_CHECKING:
    from llmhost.core.settings import Settings


def node_named(settings: Settings, paths: Paths, name: str | None) -> NodeRecord:
    """The node of that name; without one, the only one there is.

    Raises NotReady (`no_fleet`), UsageError (`no_such_node`, `which_node`).
    """
    nodes = [node for node in recorded(paths)[0] if node.fleet == settings.fleet]
    if not nodes:
        raise no_fleet(settings.fleet)
    names = ", ".join(node.id for node in nodes)
    if name is None and len(nodes) > 1:
        raise UsageError(f"say which node: {names}.", hint="llmhost status", code="which_node")
    found = next((node for node in nodes if name in (None, node.id)), None)
    if found is None:
        raise UsageError(
            f"fleet {settings.fleet!r} has no node {name}; there is {names}.",
            hint="llmhost status",
            code="no_such_node",
        )
    return found
