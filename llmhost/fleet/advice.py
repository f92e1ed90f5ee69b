"""What a user may want to do next, told from the picture `status` has drawn. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmhost.core.ledger import NodeRecord
from llmhost.fleet.desired import VAST, is_remote
from llmhost.fleet.status_node import AT_REST, GOES_ON
from llmhost.providers.base import COMFORTABLE_CONTEXT, DEFAULT_CONTEXT
from llmhost.providers.local import PULL_COMMAND

RESTART = "llmhost up"
TUNNEL = "llmhost tunnel"
WATCH = "llmhost status --watch"
REMOTE_MODEL = "llmhost up --provider ssh --backend ollama --model NAME"
RENTED_MODEL = "llmhost up --provider vast --backend ollama --model NAME"
# On its way in or out, a rented machine has no link yet; what it waits for is told with its money.
ON_THE_WAY = ("renting", "booting", "installing", "loading", "destroying")
PIN_TROUBLES = ("host_key_changed", "host_key_unknown")


def advice(data: dict[str, Any], nodes: list[NodeRecord]) -> list[dict[str, str]]:
    """`[{code, text, command}]`, the most urgent first."""
    found = list(_about_supervisor(data, nodes)) if data["fleet"]["nodes"] else list(_about_nothing(data))
    found += _about_processes(data)
    found += _about_rehearsal([node for node in nodes if node.backend == "rehearsal"])
    for node in nodes:
        found += _about_node(node)
    return found + list(_about_cache(data))


def _entry(code: str, text: str, command: str) -> dict[str, str]:
    return {"code": code, "text": text, "command": command}


def _about_supervisor(data: dict[str, Any], nodes: list[NodeRecord]) -> Iterator[dict[str, str]]:
    supervisor = data["supervisor"]
    if supervisor["state"] == "gone":
        elsewhere = all(is_remote(node) for node in nodes)
        what = "The links and the gateway are closed" if elsewhere else "The fleet should be up, but"
        text = f"{what}{':' if elsewhere else ''} {supervisor['reason']}. Start it again (llmhost claude does, too)."
        yield _entry("supervisor_gone", text, TUNNEL if elsewhere else RESTART)
    if supervisor["state"] == "silent":
        yield _entry("supervisor_silent", f"{supervisor['reason']} End it, then start anew.", "llmhost down")
    if supervisor["outdated"]:
        text = f"The supervisor is version {supervisor['version']}; it is replaced by the next start."
        yield _entry("supervisor_outdated", text, RESTART)


def _about_nothing(data: dict[str, Any]) -> Iterator[dict[str, str]]:
    yield _entry("no_fleet", "No fleet is up.", "llmhost up --provider local")
    if data["supervisor"]["idle"]:
        text = (
            "A supervisor runs without a fleet, left by a start that failed or waiting for one that goes on just now."
        )
        yield _entry("supervisor_idle", text, "llmhost down")


def _about_processes(data: dict[str, Any]) -> Iterator[dict[str, str]]:
    running = data["supervisor"]["state"] == "running"
    for node in data["fleet"]["nodes"]:
        if node["provider"] == VAST and node["state"] in ON_THE_WAY:
            continue
        if node["tunnel"] is not None:
            yield from _about_remote(node) if running or node["state"] in ("installing", "destroying") else ()
        elif not running:
            continue
        elif node["state"] in ("failed", "degraded", "unreachable"):
            text = f"Node {node['id']} is {node['state']}: {node['reason']}."
            yield _entry("node_trouble", text, f"llmhost logs {node['id']}")
    gateway = data["gateway"]
    if running and gateway["state"] == "failed":
        yield _entry(
            "gateway_trouble", f"The gateway is failing: {gateway['reason']}.", "llmhost logs --source gateway"
        )


def _about_remote(node: dict[str, Any]) -> Iterator[dict[str, str]]:
    """A node over SSH: what helps depends on why its link is not up."""
    id, link, state = node["id"], node["tunnel"], node["state"]
    why = (node["reason"] or link["state"] or "no reason is known").rstrip(".")
    if why.startswith(AT_REST):
        return  # no link brings it back; what helps is told with the money (money_advice)
    if state in ("installing", "destroying"):
        remedy = {"installing": "llmhost up", "destroying": f"llmhost down {id}"}[state]
        yield _entry(f"node_{state}", f"Node {id} is {state}: {why}.", WATCH if why == GOES_ON else remedy)
    elif link["reason"] in PIN_TROUBLES:
        yield _entry(link["reason"], f"Node {id}: {why}.", f"llmhost tunnel --repin {id}")
    elif link["state"] == "failed":
        yield _entry(
            link["reason"] or "link_failed", f"Node {id} cannot be reached: {why}. After a remedy:", "llmhost tunnel"
        )
    elif link["state"] in ("stopped", None):
        yield _entry("tunnel_closed", f"Node {id}: {why}.", "llmhost tunnel")
    elif link["state"] == "degraded":
        yield _entry("node_trouble", f"Node {id} does not serve: {why}.", f"llmhost restart {id} --proxy")
    elif link["state"] == "reconnecting":
        yield _entry(
            "reconnecting", f"The link to node {id} is coming back: {why}.", f"llmhost logs {id} --source tunnel"
        )
    elif state in ("failed", "degraded"):
        yield _entry("node_trouble", f"Node {id} is {state}: {why}.", f"llmhost logs {id}")


def _about_rehearsal(nodes: list[NodeRecord]) -> Iterator[dict[str, str]]:
    if not nodes:
        return
    names = ", ".join(node.id for node in nodes)
    who = f"Node {names} rehearses" if len(nodes) == 1 else f"Nodes {names} rehearse"
    remote = is_remote(nodes[0])
    remedy = "name a model" if remote else "install Ollama and pull a model"
    text = f"{who}: no model is behind the answers. For a real one, {remedy}."
    yield _entry("rehearsal", text, _model_command(nodes[0]) if remote else PULL_COMMAND)


def _model_command(node: NodeRecord) -> str:
    return RENTED_MODEL if node.provider == VAST else REMOTE_MODEL


def _about_node(node: NodeRecord) -> Iterator[dict[str, str]]:
    if node.context is not None and node.context < COMFORTABLE_CONTEXT:
        text = f"The window of node {node.id} has {node.context} tokens; Claude Code needs at least {COMFORTABLE_CONTEXT:,}."
        yield _entry("small_context", text, f"llmhost up --provider {node.provider} --context {DEFAULT_CONTEXT}")


def _about_cache(data: dict[str, Any]) -> Iterator[dict[str, str]]:
    cache = data["cache"]
    if cache["state"] == "degraded":
        why = cache.get("detail") or "its store does not answer"
        yield _entry(
            "cache_degraded",
            f"The response cache is degraded: {why}. Requests are answered all the same.",
            "llmhost doctor",
        )
