"""Makes a decision hold: in the ledger and in the supervisor, both or neither."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmhost.core import secrets
from llmhost.core.errors import LlmhostError, NotReady
from llmhost.core.ledger import GatewayRecord, Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.fleet.desired import (
    DRAINING,
    GATEWAY,
    LEAVING,
    LINKS,
    RUNS,
    WATCH,
    in_phase,
    ollama_spec,
    server_settings,
    serving,
    specs_of,
)
from llmhost.fleet.links import link_specs
from llmhost.fleet.observed import links_of
from llmhost.fleet.plan import Plan, serves
from llmhost.providers.base import BackendChoice
from llmhost.ssh.identity import AGENT_SOCKET
from llmhost.supervisor.client import SupervisorClient
from llmhost.supervisor.launch import end_supervisor, find_supervisor
from llmhost.supervisor.port_owner import port_owner
from llmhost.supervisor.spec import ChildSpec

if TYPE_CHECKING:
    from llmhost.core.settings import Settings


@dataclass(slots=True)
class Desk:
    """What every step of `up` needs: the open ledger, the supervisor, settings, paths, and the gateway's token.

    `watch` = machines are about to be rented, so the watch over them is wanted already. It is, too, while the ledger has any that may
    bill.
    """

    ledger: Ledger
    client: SupervisorClient
    settings: Settings
    paths: Paths
    token: str
    watch: bool = False


def gateway_token(paths: Paths) -> str:
    """The token clients use, made at the first `up`."""
    return secrets.read_or_create(paths.gateway_token_file)


Change = Callable[[list[NodeRecord]], list[NodeRecord]]


def hold(desk: Desk, change: Change, gateway: GatewayRecord) -> dict[str, Any]:
    """Want the nodes that `change` makes of those that are recorded, and this gateway. What the supervisor does about it.

    Nothing has changed when it raises: LlmhostError, e.g. `port_in_use`.
    """
    with desk.ledger.transaction():
        nodes = change(desk.ledger.nodes())
        known = _with_settings(gateway, desk.settings)
        applied = send(desk, nodes, known)
        desk.ledger.set_nodes(nodes)
        desk.ledger.put_gateway(replace(known, port=applied["ports"].get(GATEWAY, known.port)))
    return applied


def commit(desk: Desk, plan: Plan, choice: BackendChoice) -> tuple[NodeRecord, dict[str, Any]]:
    """Want the chosen node of this machine and a gateway; nodes elsewhere get no new work. Returns its record and what the supervisor does.

    Raises as `hold` does.
    """
    node = _record(plan, choice, desk.ledger.nodes(plan.fleet))

    def change(nodes: list[NodeRecord]) -> list[NodeRecord]:
        return [*(in_phase(one, DRAINING) for one in nodes if one.id != node.id), node]

    return node, hold(desk, change, plan.gateway)


def start_ollama(desk: Desk, choice: BackendChoice) -> None:
    """Run `ollama serve` beside what runs already."""
    spec = ollama_spec(choice.spec)
    if spec is None:
        return
    with desk.ledger.transaction():
        nodes, gateway = desk.ledger.nodes(), desk.ledger.gateway()
        send(desk, nodes if gateway else [], gateway, first=spec, keep=True)


def restart(desk: Desk, *, keep: bool = True) -> dict[str, Any]:
    """Want what the ledger says; with `keep`, what runs is left alone, but for links that lost their agent.

    Raises NotReady (`no_fleet`) when it says nothing.
    """
    with desk.ledger.transaction():
        nodes, wished = desk.ledger.nodes(), desk.ledger.gateway()
        if wished is None or not serving(nodes):
            raise no_fleet(desk.settings.fleet)
        applied = send(desk, nodes, wished, keep=keep)
        _renew_agents(desk, nodes)
        held = replace(wished, port=applied["ports"][GATEWAY])
        if held != wished:
            desk.ledger.put_gateway(held)
    return applied


def _renew_agents(desk: Desk, nodes: list[NodeRecord]) -> None:
    """A link that is down takes the agent of this shell: the one it had may have ended with the login that it belonged to."""
    here = os.environ.get(AGENT_SOCKET)
    up = {name for name, link in links_of(desk.client.ask("status")).items() if link["state"] == "up"}
    lost = {node.id for node in nodes if node.spec.get("agent")} - up
    links = desk.client.ask("wanted").get("links") or []
    renewed = [{**link, "agent": here} if link["name"] in lost else link for link in links]
    if here and renewed != links:
        _apply(desk, desk.client.wanted(), renewed)


def any_change(did: dict[str, Any]) -> bool:
    """Whether the supervisor had anything to do: with children, links, or what it tells the gateway."""
    links = did.get("links") or {}
    names = ("started", "replaced", "removed")
    return any(did.get(name) for name in names) or any(links.get(name) for name in names)


def no_fleet(fleet: str) -> NotReady:
    return NotReady(f"fleet {fleet!r} is not up.", hint="llmhost up --provider local", code="no_fleet")


def send(
    desk: Desk,
    nodes: list[NodeRecord],
    gateway: GatewayRecord | None,
    *,
    first: ChildSpec | None = None,
    keep: bool = False,
) -> dict[str, Any]:
    """Hand children and links to the supervisor; a taken port is explained with who has it. `first` runs beside what the nodes need."""
    specs, links = [], []
    if gateway is not None:
        known = _with_settings(gateway, desk.settings)
        specs = specs_of(nodes, known, desk.paths, desk.token)
        links = link_specs(nodes, desk.paths, known.server.get(LINKS) or {})
    children = [*([first] if first else []), *(spec for spec in specs if first is None or spec.name != first.name)]
    return _apply(desk, [*children, *_watch(desk)], [link.as_dict() for link in links], keep=keep)


def _watch(desk: Desk) -> list[ChildSpec]:
    """The watch over what is rented, for as long as anything is."""
    if not desk.watch and not desk.ledger.rentals.all(open_only=True):
        return []
    from llmhost.fleet.rented.watch import watch_spec

    return [watch_spec(desk.settings, desk.paths, desk.client.wanted())]


def _apply(desk: Desk, specs: list[ChildSpec], links: list[dict[str, Any]], *, keep: bool = False) -> dict[str, Any]:
    try:
        return desk.client.ask("apply", children=[spec.as_dict() for spec in specs], links=links, keep=keep)
    except LlmhostError as error:
        raise _with_owner(error, specs) from error


def _with_settings(gateway: GatewayRecord, settings: Settings) -> GatewayRecord:
    return gateway if gateway.server else replace(gateway, server=server_settings(settings))


@contextlib.contextmanager
def undone_on_failure(
    desk: Desk, progress: Progress, *, started_here: bool, left: Callable[[], list[NodeRecord]] = list
) -> Iterator[None]:
    """Whatever ends the block early (Ctrl-C too), the fleet is as it was before. `started_here`: the supervisor was not running.

    `left` are new nodes that may still be on their machines: they stay in the ledger, on their way out, for `down` to end.
    """
    before = _before(desk)
    try:
        yield
    except BaseException:
        # The failure that brought us here says more than one of these; and telling comes last, for want of a terminal it may fail.
        with contextlib.suppress(LlmhostError, OSError):
            behind = left()
            # what may still bill needs somebody who watches it
            watched = bool(desk.ledger.rentals.all(open_only=True))
            desk.watch = watched
            _restore(desk, before, behind, stop=(started_here or not before.nodes) and not watched)
            progress.note(_told_of(behind))
        raise


@dataclass(frozen=True, slots=True)
class _Before:
    """The ledger, and what the supervisor really ran (nothing, if it has just replaced one of another version)."""

    nodes: list[NodeRecord]
    gateway: GatewayRecord | None
    specs: list[ChildSpec]
    links: list[dict[str, Any]]


def _before(desk: Desk) -> _Before:
    links = desk.client.ask("wanted").get("links") or []
    return _Before(desk.ledger.nodes(), desk.ledger.gateway(), desk.client.wanted(), links)


def _told_of(behind: list[NodeRecord]) -> str:
    if not behind:
        return "what was started is undone"
    ids = " ".join(node.id for node in behind)
    return f"what was started is undone, but for what is left on other machines: llmhost down {ids}"


def _restore(desk: Desk, before: _Before, behind: list[NodeRecord], *, stop: bool) -> None:
    known = {node.id for node in before.nodes}
    leaving = [in_phase(node, LEAVING) for node in behind if node.id not in known]
    with desk.ledger.transaction():
        desk.ledger.set_nodes([*before.nodes, *leaving])
        desk.ledger.put_gateway(before.gateway)
        if not stop and before.specs:
            _apply(desk, [*(spec for spec in before.specs if spec.name != WATCH), *_watch(desk)], before.links)
        elif not stop:
            send(desk, before.nodes, before.gateway)
    client = find_supervisor(desk.paths) if stop else None
    if client is not None:
        with client:
            end_supervisor(client)


def _record(plan: Plan, choice: BackendChoice, existing: list[NodeRecord]) -> NodeRecord:
    spec = {**choice.spec, **({"fallback": True} if choice.fallback else {})}
    for node in existing:
        if node.id == plan.node_id and serves(node, choice):
            return replace(node, spec={**spec, **{name: value for name, value in node.spec.items() if name == RUNS}})
    # A new token with every new backend: a gateway that knew the old model must not go on in front of the new one.
    token = secrets.new_token()
    return NodeRecord(
        plan.node_id, plan.fleet, plan.provider, choice.backend, choice.model, choice.context, token, spec
    )


def _with_owner(error: LlmhostError, specs: list[ChildSpec]) -> LlmhostError:
    port = next((spec.listen.port for spec in specs if spec.listen and spec.listen.explicit), None)
    owner = port_owner(port) if error.code == "port_in_use" and port else None
    if owner is None:
        return error
    return LlmhostError(f"{error.message.rstrip('.')} by {owner}.", hint=error.hint, code=error.code)
