"""What a user may want to do next, told from the picture `status` has drawn. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmhost.core.ledger import NodeRecord
from llmhost.providers.base import COMFORTABLE_CONTEXT, DEFAULT_CONTEXT
from llmhost.providers.local import PULL_COMMAND

RESTART = "llmhost up"


def advice(data: dict[str, Any], nodes: list[NodeRecord]) -> list[dict[str, str]]:
    """`[{code, text, command}]`, the most urgent first."""
    found = list(_about_supervisor(data)) if nodes else list(_about_nothing(data))
    found += _about_processes(data) if data["supervisor"]["state"] == "running" else []
    for node in nodes:
        found += _about_node(node)
    return found + list(_about_cache(data))


def _entry(code: str, text: str, command: str) -> dict[str, str]:
    return {"code": code, "text": text, "command": command}


def _about_supervisor(data: dict[str, Any]) -> Iterator[dict[str, str]]:
    supervisor = data["supervisor"]
    if supervisor["state"] in ("gone", "absent"):
        text = f"The fleet should be up, but {supervisor['reason']}. Start it again (llmhost claude does, too)."
        yield _entry("supervisor_gone", text, RESTART)
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
    for node in data["fleet"]["nodes"]:
        if node["state"] in ("failed", "degraded", "unreachable"):
            text = f"Node {node['id']} is {node['state']}: {node['reason']}."
            yield _entry("node_trouble", text, f"llmhost logs {node['id']}")
    gateway = data["gateway"]
    if gateway["state"] == "failed":
        yield _entry(
            "gateway_trouble", f"The gateway is failing: {gateway['reason']}.", "llmhost logs --source gateway"
        )


def _about_node(node: NodeRecord) -> Iterator[dict[str, str]]:
    if node.backend == "rehearsal":
        text = f"Node {node.id} rehearses: no model is behind its answers. For a real one, install Ollama and pull a model."
        yield _entry("rehearsal", text, PULL_COMMAND)
    if node.context is not None and node.context < COMFORTABLE_CONTEXT:
        text = f"The window of node {node.id} has {node.context} tokens; Claude Code needs at least {COMFORTABLE_CONTEXT:,}."
        yield _entry("small_context", text, f"llmhost up --provider local --context {DEFAULT_CONTEXT}")


def _about_cache(data: dict[str, Any]) -> Iterator[dict[str, str]]:
    cache = data["cache"]
    if cache["state"] == "degraded":
        why = cache.get("detail") or "its store does not answer"
        yield _entry(
            "cache_degraded",
            f"The response cache is degraded: {why}. Requests are answered all the same.",
            "llmhost doctor",
        )
