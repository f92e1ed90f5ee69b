"""The links as a part of the operator's supervisor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmhost.supervisor.part import Surroundings
from llmhost.tunnel.links import Links, read_specs

NODES = "nodes"


class LinksPart:
    """Adds `links` to `apply`, `status` and `wanted`, the operations `kick` and `refresh`, and tells the gateway of hopeless links."""

    def __init__(self, here: Surroundings) -> None:
        self._here = here
        self._links = Links(here.run_dir, here.log_dir, self._changed, self._somebody_waits)
        self._asked: dict[str, float] = {}
        here.children.amend_live(self._amend)

    def start(self) -> None:
        removed = self._links.start()
        if removed:
            self._here.events.write("stale_sockets_removed", names=removed)

    def prepare(self, message: dict[str, Any], keep: bool) -> Callable[[], dict[str, Any]] | None:
        if message.get("links") is None:
            return None
        specs = read_specs(message["links"])
        return lambda: {"links": self._links.apply(specs, keep=keep)}

    def ask_anew(self) -> None:
        self._asked = self._links.ask_anew()

    def view(self, deadline: float) -> dict[str, Any]:
        return {"links": self._links.view(self._asked, deadline)}

    def wanted(self) -> dict[str, Any]:
        return {"links": [spec.as_dict() for spec in self._links.wanted()]}

    def handle(self, operation: str, message: dict[str, Any]) -> dict[str, Any] | None:
        if operation == "kick":
            return {"kicked": self._links.kick(message.get("name"))}
        if operation == "refresh":
            return {"refreshed": self._links.refresh(message.get("name"))}
        return None

    def pids(self) -> list[int]:
        return self._links.pids()

    def close(self) -> None:
        self._links.close()

    def _changed(self) -> None:
        self._here.on_pid()
        self._here.children.live_changed()

    def _amend(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """A node whose link failed for good is no node to wait for: the gateway is told why."""
        trouble = self._links.trouble()
        nodes = body.get(NODES)
        if not trouble or not isinstance(nodes, list):
            return body
        return {**body, NODES: [_with_trouble(node, trouble.get(node.get("id"))) for node in nodes]}

    def _somebody_waits(self) -> bool:
        """Whether any server here has a request in hand."""
        return any(_in_flight(reading) for reading in self._here.children.readings().values())


def _in_flight(reading: Any) -> bool:
    requests = reading.get("requests") if isinstance(reading, dict) else None
    return isinstance(requests, dict) and bool(requests.get("in_flight"))


def _with_trouble(node: dict[str, Any], reason: tuple[str, str, bool] | None) -> dict[str, Any]:
    return node if reason is None else {**node, "trouble": [reason[0], reason[1]]}
