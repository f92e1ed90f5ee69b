"""What `up` would do with machines reached over SSH. They are logged in to and looked at; nothing on them is changed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from llmhost.bootstrap.machine import Machine, inspect
from llmhost.core.errors import NothingSuitable
from llmhost.core.ledger import GatewayRecord, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.fleet.desired import SSH, phase_of
from llmhost.fleet.hosts import HostWish, Place, places
from llmhost.fleet.installation import installation_id
from llmhost.fleet.links import pins_of
from llmhost.fleet.plan import (
    OF_THE_GATEWAY,
    UpRequest,
    changes_of,
    port_of,
    recorded,
    refuse_second_fleet,
    which_provider,
    wish_of,
)
from llmhost.fleet.together import all_or_raise, at_once
from llmhost.fleet.visit import Visits
from llmhost.providers.base import BackendChoice
from llmhost.providers.ssh import HostFacts, SshProvider, choose_for
from llmhost.ssh.session import Session
from llmhost.supervisor.listener import bind
from llmhost.supervisor.spec import Listen

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

NodeAction = Literal["create", "change", "keep"]
Action = Literal["create", "replace", "extend", "change", "replace_gateway", "keep"]


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node. `first_key` is the fingerprint of a host key that was seen for the first time, and is trusted from now on."""

    place: Place
    session: Session
    machine: Machine
    choice: BackendChoice
    action: NodeAction
    first_key: str | None = None

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


def make_remote_plan(
    request: UpRequest, settings: Settings, paths: Paths, visits: Visits, progress: Progress, undo: contextlib.ExitStack
) -> RemotePlan:
    """Log in to every host, look at it, and decide. The sessions stay open in `visits`; host keys seen first are forgotten by `undo`.

    Raises UsageError, SshFailure or LlmhostError of the one host, or SeveralFailed of several; NothingSuitable (`mixed_fleet`) when one
    machine would have a model and another none.
    """
    fleet = request.fleet or settings.fleet
    nodes, gateway = recorded(paths)
    refuse_second_fleet(fleet, nodes)
    _provider, provider_source = which_provider(request, settings, nodes)
    found = places(_host_wish(request, settings), nodes, fleet, installation_id(paths))
    port, port_source = port_of(request, settings, gateway)
    _check_port(port, gateway)
    plans = _looked_at(found, request, settings, visits, progress, undo)
    _refuse_mixture(plans)
    sources = wish_of(request, settings, _pattern(nodes))[1]
    sources |= {"provider": provider_source, "port": port_source, "fleet": settings.source("fleet")}
    leaving = tuple(node.id for node in nodes if node.provider != SSH)
    changes = changes_of(gateway, port, paths) if nodes else ()
    action = _action(plans, leaving, changes, gateway, port)
    return RemotePlan(fleet, tuple(plans), leaving, port, action, request.tunnel, sources, changes)


def facts_of(place: Place, machine: Machine) -> HostFacts:
    return HostFacts(place.host, machine.gpu, machine.vram_total_mb)


def _host_wish(request: UpRequest, settings: Settings) -> HostWish:
    return replace(
        request.hosts,
        hosts=request.hosts.hosts or settings.hosts or (),
        usual_identity=settings.identity,
        usual_transport=settings.transport,
    )


def _pattern(nodes: list[NodeRecord]) -> NodeRecord | None:
    """The node whose backend, model and window hold where nothing else was asked for."""
    return next((node for node in nodes if node.provider == SSH and phase_of(node) is None), None)


def _looked_at(
    found: list[Place],
    request: UpRequest,
    settings: Settings,
    visits: Visits,
    progress: Progress,
    undo: contextlib.ExitStack,
) -> list[NodePlan]:
    hosts = ", ".join(place.host for place in found)
    progress.phase("check", f"looking at {hosts}")
    pattern = _pattern([place.record for place in found if place.record])
    wish = wish_of(request, settings, pattern)[0]

    def look(place: Place) -> NodePlan:
        keys: list[str] = []
        session = visits.go(_fresh(place, visits.paths, undo), keys.append)
        machine = inspect(session)
        choice = choose_for(facts_of(place, machine), wish)
        return NodePlan(place, session, machine, choice, _node_action(place, choice), keys[0] if keys else None)

    return all_or_raise(at_once(found, look, visits.close))


def _fresh(place: Place, paths: Paths, undo: contextlib.ExitStack) -> Place:
    """A key pinned for a node that was never finished says nothing about the machine that gets its name now."""
    if place.record is None:
        pins = pins_of(paths)
        pins.forget(place.alias)
        undo.callback(pins.forget, place.alias)
    return place


def _check_port(port: GatewayRecord, gateway: GatewayRecord | None) -> None:
    """A port that was asked for by name and is taken must fail before anything is changed. Raises LlmhostError (`port_in_use`)."""
    if port.explicit and (gateway is None or gateway.port != port.port):
        bind(Listen(port.port, explicit=True)).close()


def _refuse_mixture(plans: list[NodePlan]) -> None:
    poor = [plan.place.host for plan in plans if plan.choice.backend == "rehearsal"]
    if poor and len(poor) < len(plans):
        raise NothingSuitable(
            f"{', '.join(poor)} would rehearse beside machines with a model, and a conversation could land on either.",
            hint="Name a model for all (--model NAME), or leave out the hosts without a GPU.",
            code="mixed_fleet",
        )


def _node_action(place: Place, choice: BackendChoice) -> NodeAction:
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


def _action(
    plans: list[NodePlan],
    leaving: tuple[str, ...],
    changes: tuple[str, ...],
    gateway: GatewayRecord | None,
    port: GatewayRecord,
) -> Action:
    actions = {plan.action for plan in plans}
    if leaving:
        return "replace"
    if "create" in actions:
        return "create" if actions == {"create"} else "extend"
    if "change" in actions or any(not name.startswith(OF_THE_GATEWAY) for name in changes):
        return "change"
    moved = port.explicit and gateway is not None and gateway.port != port.port
    return "replace_gateway" if moved or changes else "keep"
