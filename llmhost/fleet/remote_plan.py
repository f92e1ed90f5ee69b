"""What `up` would do with machines reached over SSH: values, and what follows from them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from llmhost.bootstrap.machine import Machine
from llmhost.core.errors import NothingSuitable
from llmhost.core.ledger import GatewayRecord
from llmhost.fleet.desired import SSH, VAST, phase_of
from llmhost.fleet.hosts import Place
from llmhost.fleet.plan import OF_THE_GATEWAY
from llmhost.providers.base import BackendChoice
from llmhost.providers.ssh import HostFacts, SshProvider
from llmhost.ssh.session import Session

NodeAction = Literal["create", "change", "keep"]
Action = Literal["create", "replace", "extend", "change", "replace_gateway", "keep"]


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node. `first_key` is the fingerprint of a host key that was seen for the first time, and is trusted from now on.

    `rental` = the label of what is rented for it, None = the machine is the user's own. `ollama_env` are further variables for Ollama.
    """

    place: Place
    session: Session
    machine: Machine
    choice: BackendChoice
    action: NodeAction
    first_key: str | None = None
    rental: str | None = None
    ollama_env: Mapping[str, str] = field(default_factory=dict)

    @property
    def provider(self) -> str:
        return SSH if self.rental is None else VAST

    def as_dict(self) -> dict[str, Any]:
        facts = (
            "gpu",
            "driver",
            "vram_total_mb",
            "memory_mb",
            "disk_free_mb",
            "python_version",
            "ollama_version",
            "platform",
        )
        return {
            "id": self.place.node_id,
            "host": self.place.host,
            "action": self.action,
            "transport": self.place.transport,
            "backend": self.choice.backend,
            "model": self.choice.model,
            "context": self.choice.context,
            "why": self.choice.why,
            "first_key": self.first_key,
            **{name: getattr(self.machine, name) for name in facts},
        }


@dataclass(frozen=True, slots=True)
class RemotePlan:
    """Nodes and a gateway. `leaving` are the nodes of another provider that these take the place of."""

    fleet: str
    nodes: tuple[NodePlan, ...]
    leaving: tuple[str, ...]
    gateway: GatewayRecord
    action: Action
    tunnel: bool
    sources: dict[str, str] = field(default_factory=dict)
    changes: tuple[str, ...] = ()

    @property
    def provider(self) -> str:
        return SSH

    @property
    def warnings(self) -> list[str]:
        notes = [note for node in self.nodes for note in (*node.machine.notes, *node.choice.notes)]
        return list(dict.fromkeys(notes))

    def as_dict(self) -> dict[str, Any]:
        """The contract's `data.plan`, with every node."""
        first = self.nodes[0].choice
        offers = SshProvider([facts_of(node.place, node.machine) for node in self.nodes]).offers()
        return {
            "provider": SSH,
            "fleet": self.fleet,
            "action": self.action,
            "node": ", ".join(node.place.node_id for node in self.nodes),
            "nodes": [node.as_dict() for node in self.nodes],
            "leaving": list(self.leaving),
            "backend": first.backend,
            "model": first.model,
            "context": first.context,
            "pull": any(node.choice.missing and node.action != "keep" for node in self.nodes),
            "starts_ollama": False,
            "why": self._why(),
            "changes": list(self.changes),
            "port": self.gateway.port,
            "port_explicit": self.gateway.explicit,
            "tunnel": self.tunnel,
            "sources": self.sources,
            "offers": [offer.as_dict() for offer in offers],
            "price_usd_per_hour": 0.0,
            "worst_case_usd": 0.0,  # they are the user's own
            "credit_usd": None,
            "onstart": None,
        }

    def _why(self) -> str:
        settings = f"these settings are others than it runs with: {', '.join(self.changes)}" if self.changes else ""
        return "; ".join(filter(None, (*dict.fromkeys(node.choice.why for node in self.nodes), settings)))


def facts_of(place: Place, machine: Machine) -> HostFacts:
    """What a machine is to the provider."""
    return HostFacts(place.host, machine.gpu, machine.vram_total_mb)


def refuse_mixture(plans: list[NodePlan]) -> None:
    """Raises NothingSuitable (`mixed_fleet`)."""
    poor = [plan.place.host for plan in plans if plan.choice.backend == "rehearsal"]
    if poor and len(poor) < len(plans):
        raise NothingSuitable(
            f"{', '.join(poor)} would rehearse beside machines with a model, and a conversation could land on either.",
            hint="Name a model for all (--model NAME), or leave out the hosts without a GPU.",
            code="mixed_fleet",
        )


def node_action(place: Place, choice: BackendChoice) -> NodeAction:
    """What becomes of what is recorded of a host."""
    node = place.record
    if node is None or phase_of(node) is not None:
        return "create"
    same = (node.backend, node.spec["transport"], node.spec.get("identity")) == (
        choice.backend,
        place.transport,
        place.identity,
    )
    same_model = choice.backend == "rehearsal" or node.model == choice.model
    same_window = choice.context is None or node.context == choice.context
    return "keep" if same and same_model and same_window else "change"


def action_of(
    plans: list[NodePlan],
    leaving: tuple[str, ...],
    changes: tuple[str, ...],
    gateway: GatewayRecord | None,
    port: GatewayRecord,
) -> Action:
    """What becomes of the whole fleet."""
    actions = {plan.action for plan in plans}
    if leaving:
        return "replace"
    if "create" in actions:
        return "create" if actions == {"create"} else "extend"
    if "change" in actions or any(not name.startswith(OF_THE_GATEWAY) for name in changes):
        return "change"
    moved = port.explicit and gateway is not None and gateway.port != port.port
    return "replace_gateway" if moved or changes else "keep"
