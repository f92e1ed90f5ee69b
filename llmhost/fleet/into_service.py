"""The last steps of every `up` that has nodes elsewhere: they are wanted, waited for, proved, and told of."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from llmhost.core.ledger import GatewayRecord, NodeRecord
from llmhost.core.progress import Progress
from llmhost.core.result import Result
from llmhost.fleet.commit import Desk, hold
from llmhost.fleet.desired import DRAINING, in_phase
from llmhost.fleet.readiness import Wait, prove, ready_deadline
from llmhost.fleet.status import status


class Wanted(Protocol):
    """What of a plan matters here. `leaving` are nodes of another provider, which get no new work from now on."""

    @property
    def fleet(self) -> str: ...

    @property
    def tunnel(self) -> bool: ...

    @property
    def leaving(self) -> tuple[str, ...]: ...

    @property
    def gateway(self) -> GatewayRecord: ...

    def as_dict(self) -> dict[str, Any]: ...


@dataclass(slots=True)
class Outcome:
    """`did` as `hold` says it, `proof` as `prove`; None when nothing had to change."""

    did: dict[str, Any]
    changed: bool
    proof: dict[str, Any] | None
    warnings: list[str]


def want(desk: Desk, plan: Wanted, records: Sequence[NodeRecord], gone: Collection[str] = ()) -> dict[str, Any]:
    """Have these nodes, beside those that stay and without those that are `gone`; what the supervisor does about it.

    Without links only the ledger is told. Raises as `hold` does.
    """
    replaced = {*(record.id for record in records), *gone}

    def change(nodes: list[NodeRecord]) -> list[NodeRecord]:
        others = [node for node in nodes if node.id not in replaced]
        return [*(in_phase(node, DRAINING) if node.id in plan.leaving else node for node in others), *records]

    if plan.tunnel:
        return hold(desk, change, plan.gateway)
    with desk.ledger.transaction():
        desk.ledger.set_nodes(change(desk.ledger.nodes()))
        desk.ledger.put_gateway(plan.gateway)
    return {}


def serve(desk: Desk, ids: list[str], progress: Progress, *, changed: bool) -> dict[str, Any] | None:
    """Wait until these nodes answer, and when something changed ask one real question. Raises NotReady, LlmhostError."""
    deadline = ready_deadline(desk.settings)
    progress.phase("ready", "waiting until every node answers through its link")
    gateway = Wait(desk.client, desk.paths, progress, ids, deadline).until_ready()
    if not changed:
        return None
    progress.phase("prove", "asking one real question")
    return prove(gateway["port"], desk.token, deadline - time.monotonic())


def result_of(desk: Desk, plan: Wanted, outcome: Outcome) -> Result:
    """What `up` answers."""
    seen = status(desk.settings, desk.paths, plan.fleet).data
    data = {
        "plan": plan.as_dict(),
        "nodes": seen["fleet"]["nodes"],
        "gateway": seen["gateway"],
        "changed": outcome.changed,
        "did": {name: outcome.did.get(name, []) for name in ("started", "replaced", "kept", "removed")},
        "proof": outcome.proof,
    }
    return Result(data, warnings=list(dict.fromkeys(outcome.warnings)))
