"""What the watch hears of the supervisor it runs under: what the gateway counts, and how the links are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from llmhost.core.errors import LlmhostError
from llmhost.core.paths import Paths
from llmhost.core.secrets import read
from llmhost.fleet.observed import gateway_now, links_of
from llmhost.fleet.rented.bill import moment
from llmhost.supervisor.launch import find_supervisor

ANSWER_S = 2.0


@dataclass(frozen=True, slots=True)
class Heard:
    """`nodes` are the gateway's readings of them, `links` the supervisor's by node, `requests` what the gateway was asked itself."""

    nodes: tuple[dict[str, Any], ...] = ()
    links: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: dict[str, Any] | None = None

    def any_down(self, ids: Iterable[str]) -> bool:
        """Whether the link to one of these is not up."""
        return any((self.links.get(id) or {"state": "up"})["state"] != "up" for id in ids)

    def silent_s(self, node_id: str, now: datetime) -> float | None:
        """How long nothing was heard over a node's link; None = it is up, or nobody knows."""
        link = self.links.get(node_id)
        if link is None or link["state"] == "up" or not link.get("last_ok_at"):
            return None
        return max(0.0, (now - moment(link["last_ok_at"])).total_seconds())


def hear(paths: Paths) -> Heard:
    """Ask the supervisor, and the gateway itself. What does not answer is heard of again in the next round."""
    try:
        client = find_supervisor(paths, ANSWER_S)
        if client is None:
            return Heard()
        with client:
            reply = client.ask("status", timeout_s=ANSWER_S)
        reading = gateway_now(reply, read(paths.gateway_token_file))
    except LlmhostError:
        return Heard()
    return Heard(tuple(reading.get("nodes") or ()), links_of(reply), reading.get("requests"))
