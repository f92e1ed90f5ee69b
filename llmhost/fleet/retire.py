"""Nodes on their way out: no new work, then the end of what they run, then nothing of them left on their machines."""

from __future__ import annotations

import math
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmhost.bootstrap.agent import Agent
from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.fleet.commit import Desk, hold
from llmhost.fleet.desired import DRAINING, LEAVING, in_phase, is_remote, phase_of
from llmhost.fleet.hosts import place_of
from llmhost.fleet.links import pins_of
from llmhost.fleet.observed import gateway_now
from llmhost.fleet.sweep import NOT_INSTALLED, sweep
from llmhost.fleet.together import at_once
from llmhost.fleet.visit import Visits

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Departure:
    """What became of a node. `kept` says what was left on its machine; `error` why it could not be taken away, None = it is gone."""

    node: NodeRecord
    kept: tuple[str, ...] = ()
    error: LlmhostError | None = None


def drain(desk: Desk, ids: Collection[str], progress: Progress, within_s: float = math.inf) -> None:
    """Give these nodes no new work, and wait (at most `node.drain_s`, or `within_s`) until what they do is done. Raises LlmhostError."""
    gateway = desk.ledger.gateway()
    if gateway is None or not ids:
        return
    progress.phase("drain", f"letting {', '.join(sorted(ids))} finish what is under way")
    hold(desk, lambda nodes: [_in(node, ids, DRAINING) for node in nodes], gateway)
    deadline = time.monotonic() + min(desk.settings.node_drain_s, within_s)
    while _in_flight(desk, ids) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def dismiss(desk: Desk, ids: Collection[str]) -> None:
    """Take these nodes from the gateway and close their links. Those of this machine are forgotten: the supervisor stops them.

    The others stay in the ledger, on their way out, until `take_away` made sure that nothing of them is left.
    """
    gateway = desk.ledger.gateway()
    if gateway is not None:
        hold(desk, lambda nodes: after_dismissal(nodes, ids), gateway)


def after_dismissal(nodes: list[NodeRecord], ids: Collection[str]) -> list[NodeRecord]:
    """The ledger's nodes once these are no longer served."""
    return [_in(node, ids, LEAVING) for node in nodes if node.id not in ids or is_remote(node)]


def take_away(nodes: list[NodeRecord], settings: Settings, paths: Paths, progress: Progress) -> list[Departure]:
    """End these nodes on their machines and remove their folders there, all at once. Their host keys are forgotten with them."""
    if not nodes:
        return []
    progress.phase("remove", f"removing {', '.join(node.id for node in nodes)} from {_hosts(nodes)}")
    with Visits(settings, paths) as visits:
        results = at_once(nodes, lambda node: _leave(node, visits), visits.close)
    departures = []
    for node, result in zip(nodes, results, strict=True):
        if isinstance(result, LlmhostError):
            departures.append(Departure(node, error=result))
        else:
            pins_of(paths).forget(node.spec["alias"])
            departures.append(Departure(node, result))
    return departures


def _leave(node: NodeRecord, visits: Visits) -> tuple[str, ...]:
    """What is kept there. Raises LlmhostError, SshFailure."""
    session = visits.to(node)
    try:
        gone: dict[str, Any] = Agent(session, node.spec["python"], node.spec["folder"]).remove()
    except LlmhostError as error:
        if error.code != NOT_INSTALLED or not sweep(session, node.spec["folder"], node.spec["python"]):
            raise
        return ()
    if gone.get("left"):
        raise _still_running(node, gone["left"])
    return tuple(gone.get("kept") or ())


def left_behind(departure: Departure) -> LlmhostError:
    """The error about a node that could not be taken away: where it is, why, and what to do."""
    node, why = departure.node, departure.error
    host = place_of(node).host
    reason = why.message.rstrip(".") if why else "it was left"
    folder = node.spec["folder"]
    place = folder if folder.startswith("/") else f"~/{folder}"
    return LlmhostError(
        f"{node.id} could not be removed from {host} ({reason}); what is in {place} may still run there.",
        hint=f"Try again when it can be reached: llmhost down {node.id}; or forget it as it is: llmhost down {node.id} --force",
        code="left_behind",
    )


def _in(node: NodeRecord, ids: Collection[str], phase: str) -> NodeRecord:
    # one that is further on its way does not go back
    return in_phase(node, phase) if node.id in ids and phase_of(node) in (None, DRAINING) else node


def _in_flight(desk: Desk, ids: Collection[str]) -> int:
    """Requests these nodes answer at the moment, as the gateway knows it; 0 when it cannot be asked."""
    reading = gateway_now(desk.client.ask("status"), desk.token)
    known = {node["id"]: node for node in reading.get("nodes") or ()}
    return sum(int((known.get(id) or {}).get("in_flight") or 0) for id in ids)


def _still_running(node: NodeRecord, pids: list[int]) -> LlmhostError:
    return LlmhostError(
        f"processes {', '.join(map(str, pids))} of {node.id} did not end on {place_of(node).host}.",
        hint=f"llmhost ssh {node.id} -- ps aux",
        code="not_stopped",
    )


def _hosts(nodes: list[NodeRecord]) -> str:
    return ", ".join(place_of(node).host for node in nodes)
