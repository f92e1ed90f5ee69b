"""Makes a decision hold: in the ledger and in the supervisor, both or neither."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmhost.core import secrets
from llmhost.core.errors import LlmhostError, NotReady
from llmhost.core.ledger import GatewayRecord, Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.fleet.desired import GATEWAY, ollama_spec, server_settings, specs_of
from llmhost.fleet.plan import Plan, serves
from llmhost.providers.base import BackendChoice
from llmhost.supervisor.client import SupervisorClient
from llmhost.supervisor.launch import end_supervisor, find_supervisor
from llmhost.supervisor.port_owner import port_owner
from llmhost.supervisor.spec import ChildSpec

if TYPE_CHECKING:
    from llmhost.core.settings import Settings


@dataclass(slots=True)
class Desk:
    """What every step of `up` needs: the open ledger, the supervisor, settings, paths, and the gateway's token."""

    ledger: Ledger
    client: SupervisorClient
    settings: Settings
    paths: Paths
    token: str


def gateway_token(paths: Paths) -> str:
    """The token clients use, made at the first `up`."""
    return secrets.read_or_create(paths.gateway_token_file)


def commit(desk: Desk, plan: Plan, choice: BackendChoice) -> tuple[NodeRecord, dict[str, Any]]:
    """Want the chosen node and a gateway. Returns the node's record and what the supervisor does about it.

    Nothing has changed when it raises: LlmhostError, e.g. `port_in_use`.
    """
    with desk.ledger.transaction():
        node = _record(plan, choice, desk.ledger.nodes(plan.fleet))
        applied = send(desk, specs_of([node], plan.gateway, desk.paths, desk.token))
        desk.ledger.put_node(node)
        desk.ledger.put_gateway(replace(plan.gateway, port=applied["ports"][GATEWAY]))
    return node, applied


def start_ollama(desk: Desk, choice: BackendChoice) -> None:
    """Run `ollama serve` beside what runs already."""
    spec = ollama_spec(choice.spec)
    if spec is None:
        return
    with desk.ledger.transaction():
        send(desk, [spec, *(one for one in _recorded_specs(desk) if one.name != spec.name)], keep=True)


def restart(desk: Desk, *, keep: bool = True) -> None:
    """Want what the ledger says; with `keep`, what runs is left alone. Raises NotReady (`no_fleet`) when it says nothing."""
    with desk.ledger.transaction():
        wished, specs = desk.ledger.gateway(), _recorded_specs(desk)
        if wished is None or not specs:
            raise no_fleet(desk.settings.fleet)
        applied = send(desk, specs, keep=keep)
        held = replace(wished, port=applied["ports"][GATEWAY])
        if held != wished:
            desk.ledger.put_gateway(held)


def no_fleet(fleet: str) -> NotReady:
    return NotReady(f"fleet {fleet!r} is not up.", hint="llmhost up --provider local", code="no_fleet")


def send(desk: Desk, specs: list[ChildSpec], *, keep: bool = False) -> dict[str, Any]:
    """Hand the specs to the supervisor; a taken port is explained with who has it."""
    try:
        return desk.client.ask("apply", children=[spec.as_dict() for spec in specs], keep=keep)
    except LlmhostError as error:
        raise _with_owner(error, specs) from error


@contextlib.contextmanager
def undone_on_failure(desk: Desk, progress: Progress, *, started_here: bool) -> Iterator[None]:
    """Whatever ends the block early (Ctrl-C too), the fleet is as it was before. `started_here`: the supervisor was not running."""
    before = _Before(desk.ledger.nodes(), desk.ledger.gateway(), desk.client.wanted())
    try:
        yield
    except BaseException:
        # The failure that brought us here says more than one of these; and telling comes last, for want of a terminal it may fail.
        with contextlib.suppress(LlmhostError, OSError):
            _restore(desk, before, stop=started_here or not before.nodes)
            progress.note("what was started is undone")
        raise


@dataclass(frozen=True, slots=True)
class _Before:
    """The ledger, and what the supervisor really ran (nothing, if it has just replaced one of another version)."""

    nodes: list[NodeRecord]
    gateway: GatewayRecord | None
    specs: list[ChildSpec]


def _restore(desk: Desk, before: _Before, *, stop: bool) -> None:
    with desk.ledger.transaction():
        for node in desk.ledger.nodes():
            desk.ledger.remove_node(node.id)
        for node in before.nodes:
            desk.ledger.put_node(node)
        desk.ledger.put_gateway(before.gateway)
        if not stop:
            send(desk, before.specs or _recorded_specs(desk))
    client = find_supervisor(desk.paths) if stop else None
    if client is not None:
        with client:
            end_supervisor(client)


def _recorded_specs(desk: Desk) -> list[ChildSpec]:
    nodes, gateway = desk.ledger.nodes(), desk.ledger.gateway()
    if not nodes or gateway is None:
        return []
    known = gateway if gateway.server else replace(gateway, server=server_settings(desk.settings))
    return specs_of(nodes, known, desk.paths, desk.token)


def _record(plan: Plan, choice: BackendChoice, existing: list[NodeRecord]) -> NodeRecord:
    spec = {**choice.spec, **({"fallback": True} if choice.fallback else {})}
    for node in existing:
        if node.id == plan.node_id and serves(node, choice):
            return replace(node, spec=spec)
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
