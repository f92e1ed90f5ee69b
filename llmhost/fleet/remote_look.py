"""How a plan over SSH is made: every machine is logged in to and looked at; nothing on them is changed."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from llmhost.bootstrap.machine import inspect
from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import GatewayRecord, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.fleet.desired import SSH, phase_of
from llmhost.fleet.hosts import HostWish, Place, places
from llmhost.fleet.installation import installation_id
from llmhost.fleet.links import pins_of
from llmhost.fleet.plan import (
    UpRequest,
    changes_of,
    port_of,
    recorded,
    refuse_second_fleet,
    which_provider,
    wish_of,
)
from llmhost.fleet.remote_plan import NodePlan, RemotePlan, action_of, facts_of, node_action, refuse_mixture
from llmhost.fleet.together import all_or_raise, at_once
from llmhost.fleet.visit import Visits
from llmhost.providers.ssh import choose_for
from llmhost.supervisor.listener import bind
from llmhost.supervisor.spec import Listen

if TYPE_CHECKING:
    from llmhost.core.settings import Settings


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
    check_port(port, gateway)
    plans = _looked_at(found, request, settings, visits, progress, undo)
    refuse_mixture(plans)
    sources = wish_of(request, settings, _pattern(nodes))[1]
    sources |= {"provider": provider_source, "port": port_source, "fleet": settings.source("fleet")}
    leaving = tuple(node.id for node in nodes if node.provider != SSH)
    changes = changes_of(gateway, port, paths) if nodes else ()
    action = action_of(plans, leaving, changes, gateway, port)
    return RemotePlan(fleet, tuple(plans), leaving, port, action, request.tunnel, sources, changes)


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
        return NodePlan(place, session, machine, choice, node_action(place, choice), keys[0] if keys else None)

    return all_or_raise(
        [_with_way_out(one, place) for one, place in zip(at_once(found, look, visits.close), found, strict=True)]
    )


def _with_way_out(result: NodePlan | LlmhostError, place: Place) -> NodePlan | LlmhostError:
    """A machine of the fleet that is gone must not keep the others from being looked after."""
    if isinstance(result, LlmhostError) and place.record is not None and not result.code.startswith("key_"):
        first = f"{result.hint.rstrip('.')}. " if result.hint else ""
        result.hint = f"{first}Or let the node go: llmhost down {place.node_id} --force"
    return result


def _fresh(place: Place, paths: Paths, undo: contextlib.ExitStack) -> Place:
    """A key pinned for a node that was never finished says nothing about the machine that gets its name now."""
    if place.record is None:
        pins = pins_of(paths)
        pins.forget(place.alias)
        undo.callback(pins.forget, place.alias)
    return place


def check_port(port: GatewayRecord, gateway: GatewayRecord | None) -> None:
    """A port that was asked for by name and is taken must fail before anything is changed. Raises LlmhostError (`port_in_use`)."""
    if port.explicit and (gateway is None or gateway.port != port.port):
        bind(Listen(port.port, explicit=True)).close()
