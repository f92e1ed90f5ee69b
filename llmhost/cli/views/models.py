"""`llmhost models` for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmhost.cli.views.quantities import UNKNOWN, count, size

if TYPE_CHECKING:
    from rich.console import RenderableType


def list_view(data: dict[str, Any]) -> Iterable[RenderableType]:
    """A table of what the nodes have, and the room that is left."""
    if data["models"]:
        yield _table(data["models"])
    for node in data["nodes"]:
        if node["backend"] != "ollama":
            yield f"{node['id']} rehearses: no model is behind its answers"
        elif not any(model["node"] == node["id"] for model in data["models"]):
            yield f"{node['id']} has no model; to fetch one: llmhost models pull NAME {node['id']}"
        elif node["disk_free"] is not None:
            yield f"{node['id']}: {size(node['disk_free'])} free for more"


def _table(models: list[dict[str, Any]]) -> RenderableType:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, show_edge=False)
    for heading in ("node", "model", "size", "parameters", "state", "window", "VRAM"):
        table.add_column(heading, justify="right" if heading in ("size", "parameters", "window", "VRAM") else "left")
    for model in models:
        parameters = UNKNOWN if model["parameters"] is None else f"{model['parameters']:.1f} B"
        window = count(model["context"]) if model["loaded"] else f"(up to {count(model['max_context'])})"
        vram = size(model["vram"]) if model["loaded"] else ""
        table.add_row(model["node"], model["name"], size(model["size"]), parameters, _state(model), window, vram)
    return table


def _state(model: dict[str, Any]) -> str:
    parts = ["serves"] if model["served"] else []
    parts += ["loaded"] if model["loaded"] else []
    if model["chat"] is False:
        parts.append("cannot chat")
    elif not model["tools"]:
        parts.append("cannot call tools")
    return ", ".join(parts) or "on disk"


def pull_view(data: dict[str, Any]) -> Iterable[str]:
    """What became of it on each node, and how to use it."""
    for one in data["pulled"]:
        yield f"{one['node']}: {data['model']} {'is there now' if one['fetched'] else 'was there already'}"
    if data["pulled"]:
        yield f"to use it: llmhost claude --model {data['model']}"


def rm_view(data: dict[str, Any]) -> Iterable[str]:
    """What became of it on each node."""
    for one in data["removed"]:
        yield f"{one['node']}: " + (f"deleted, {size(one['freed'])} free again" if one["removed"] else "was not there")
