"""What a client is told when no node can take its request: the reason, and the command that helps."""

from __future__ import annotations

from llmhost.backends.base import BackendHealth
from llmhost.backends.fleet.members import Members
from llmhost.backends.node import NodeBackend
from llmhost.messages.errors import ApiError, overloaded, unavailable

RETRY_S = 5.0
KEY_TROUBLES = frozenset({"host_key_changed", "host_key_unknown"})
GONE_TROUBLES = frozenset({"instance_gone"})


def refusal(members: Members, model: str | None = None) -> ApiError:
    """503, or 529 while a model is loading; `retry-after` is when it is worth asking again, as far as that is known.

    `model`: the one that was asked for by name, which perhaps not all nodes have; None = the fleet's own.
    """
    nodes = members.all()
    if not nodes:
        return unavailable("There is no node behind this gateway. To bring one up: llmhost up", RETRY_S)
    at_work = [node for node in nodes if not node.config.draining]
    if not at_work:
        return unavailable("The nodes are being taken down. To bring one up: llmhost up", RETRY_S)
    at_work = (members.with_any(model) if model else []) or at_work
    if all(node.config.trouble for node in at_work):
        return unavailable(_in_trouble(at_work[0], len(at_work)), RETRY_S)
    loading = [node for node in at_work if node.watch.lost is None and node.watch.health.state == "starting"]
    if loading:
        soonest = min(loading, key=_eta)
        what = soonest.watch.health.detail or "the model is loading"
        return overloaded(
            f"No node is ready yet. Node {soonest.config.id}: {_sentence(what)} More: llmhost status", _eta(soonest)
        )
    return unavailable(_unreachable(members, at_work, model), min(map(_eta, at_work)))


def fleet_health(members: Members) -> BackendHealth:
    """The nodes' health in one: well when one of them is."""
    nodes = members.all()
    if len(nodes) == 1 and nodes[0].config.trouble is None and not nodes[0].config.draining:
        return nodes[0].watch.health
    well = [node for node in nodes if _is_well(members, node)]
    components = {name: state for node in (well or nodes) for name, state in node.watch.health.components.items()}
    if well:
        detail = f"{len(well)} of {len(nodes)} nodes are ready"
        return BackendHealth("ok", detail, components)
    error = refusal(members)
    starting = any(node.watch.health.state == "starting" and node.config.trouble is None for node in nodes)
    return BackendHealth("starting" if starting else "failed", error.message, components, error.retry_after)


def _is_well(members: Members, node: NodeBackend) -> bool:
    held_back = node.config.draining or node.config.trouble is not None or members.has_other_model(node)
    return node.watch.health.state == "ok" and not held_back


def _in_trouble(node: NodeBackend, count: int) -> str:
    code, sentence = node.config.trouble or ("", "")
    if code in KEY_TROUBLES:
        command = f"llmhost tunnel --repin {node.config.id}"
    elif code in GONE_TROUBLES:
        command = "llmhost up"
    else:
        command = "llmhost tunnel"
    others = f" (and {count - 1} more: llmhost status)" if count > 1 else ""
    return f"Node {node.config.id} cannot be reached: {_sentence(sentence or code)}{others} To go on: {command}"


def _unreachable(members: Members, nodes: list[NodeBackend], model: str | None) -> str:
    which = f" with {model!r}" if model else ""
    reasons = "; ".join(f"{node.config.id}: {members.detail(node).rstrip('.')}" for node in nodes)
    return f"No node{which} can be reached ({reasons}). More: llmhost status"


def _eta(node: NodeBackend) -> float:
    return node.watch.eta or RETRY_S


def _sentence(text: str) -> str:
    return f"{text.rstrip('.')}."
