"""`llmhost up` for people: what it is going to do, and what to type next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmhost.cli.views.quantities import UNKNOWN, count, dollars
from llmhost.cli.views.status import NO_MODEL

if TYPE_CHECKING:
    from rich.console import RenderableType

ACTIONS = {
    "create": "start node {node} on this machine, and the gateway",
    "replace": "replace node {node} and its gateway",
    "replace_gateway": "replace the gateway; node {node} stays",
    "keep": "nothing: what was asked for is there",
}


def view(data: dict[str, Any]) -> Iterable[RenderableType]:
    """After `up`: what is there and what to type. After `up --dry-run`: the plan."""
    nodes = data.get("nodes") or []
    if not nodes:
        yield from plan_view(data["plan"])
        yield "nothing was started (--dry-run)"
        return
    for node in nodes:
        yield f"node {node['id']} is {node['state']}: {node['model'] or UNKNOWN} on {node['backend']}"
    if any(node["backend"] == "rehearsal" for node in nodes):
        yield NO_MODEL
    gateway = data.get("gateway") or {}
    if gateway.get("url"):
        yield f"gateway: {gateway['url']}"
    yield ""
    yield "Next:  llmhost claude"


def brief(data: dict[str, Any]) -> Iterable[RenderableType]:
    """What --quiet leaves: the answer alone."""
    if data.get("nodes"):
        return (data["gateway"]["url"],)
    return plan_view(data["plan"])


def plan_view(plan: dict[str, Any]) -> Iterable[RenderableType]:
    """The plan, each value with where it came from."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_column(style="dim", overflow="fold")
    for name, value, source in plan_rows(plan):
        table.add_row(Text(name), Text(value), Text(source))
    return (Text("Plan", style="bold"), table)


def plan_rows(plan: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What, value, whose wish."""
    sources = plan["sources"]
    worst = plan["worst_case_usd"]
    price = f"{dollars(plan['price_usd_per_hour'])}/h" + (f", at most {dollars(worst)}" if worst else "")
    pulled = ", will be pulled" if plan["pull"] else ""
    rows = [
        ("does", ACTIONS.get(plan["action"], plan["action"]).format(node=plan["node"]), ""),
        ("fleet", plan["fleet"], sources.get("fleet", "")),
        ("provider", plan["provider"], sources.get("provider", "")),
        ("backend", plan["backend"], sources.get("backend", "")),
        ("model", f"{plan['model'] or 'none'}{pulled}", sources.get("model", "")),
        (
            "window",
            f"{count(plan['context'])} tokens" if plan["context"] else "as the backend has it",
            sources.get("context", ""),
        ),
        (
            "gateway",
            f"port {plan['port']}{'' if plan['port_explicit'] else ', or the next free one'}",
            sources.get("port", ""),
        ),
        ("price", price, ""),
    ]
    if plan["starts_ollama"]:
        rows.append(("starts", "ollama serve, because no Ollama answers", ""))
    return [*rows, ("why", plan["why"], "")] if plan["why"] else rows
