"""`llmhost up` for people: what it is going to do, and what to type next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmhost.cli.views.quantities import count, dollars, size
from llmhost.cli.views.status import NO_MODEL, served

if TYPE_CHECKING:
    from rich.console import RenderableType

MIB = 1024 * 1024
ACTIONS = {
    "create": "start node {node} on this machine, and the gateway",
    "replace": "replace node {node} and its gateway",
    "replace_gateway": "replace the gateway; node {node} stays",
    "keep": "nothing: what was asked for is there",
}
OVER_SSH = {
    "create": "set up {node} over SSH, and the gateway here",
    "replace": "set up {node} over SSH, then let {leaving} go",
    "extend": "add {new} to the fleet",
    "change": "change what {node} serves, in place",
    "replace_gateway": "replace the gateway; {node} stays",
    "keep": "look after {node}; what was asked for is there (what does not run is started, an older server replaced)",
}


def view(data: dict[str, Any]) -> Iterable[RenderableType]:
    """After `up`: what is there and what to type. After `up --dry-run`: the plan."""
    nodes = data.get("nodes") or []
    if not nodes:
        yield from plan_view(data["plan"])
        yield "nothing was started (--dry-run)"
        return
    for node in nodes:
        place = f" at {node['host']}" if node.get("host") else ""
        yield f"node {node['id']}{place} is {node['state']}: {served(node)}"
    if any(node["backend"] == "rehearsal" for node in nodes):
        yield NO_MODEL
    gateway = data.get("gateway") or {}
    if gateway.get("url"):
        yield f"gateway: {gateway['url']}"
    yield ""
    yield f"Next:  {'llmhost claude' if gateway.get('url') else 'llmhost tunnel'}"


def brief(data: dict[str, Any]) -> Iterable[RenderableType]:
    """What --quiet leaves: the answer alone."""
    if data.get("nodes"):
        return (data["gateway"]["url"] or "",)
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


def does(plan: dict[str, Any]) -> str:
    """What becomes of what is there, in a phrase."""
    words = OVER_SSH if plan.get("nodes") else ACTIONS
    leaving = ", ".join(plan.get("leaving") or ())
    new = ", ".join(node["id"] for node in plan.get("nodes") or () if node["action"] == "create")
    text = words.get(plan["action"], plan["action"]).format(node=plan["node"], leaving=leaving, new=new)
    return f"{text}, then let {leaving} go" if leaving and not plan.get("nodes") else text


def machine_text(node: dict[str, Any]) -> str:
    """A machine reached over SSH: `n1 me@gpu.example: RTX 4090 with 24,564 MiB, 120 GB free, new`."""
    memory = f" with {count(node['vram_total_mb'])} MiB" if node["vram_total_mb"] else ""
    free = f", {size(node['disk_free_mb'] * MIB)} free" if node["disk_free_mb"] else ""
    new = {"create": ", new", "change": ", changed"}.get(node["action"], "")
    key = (
        f"; its host key is {node['first_key']}, seen for the first time and trusted from now on"
        if node["first_key"]
        else ""
    )
    return f"{node['id']} {node['host']}: {node['gpu'] or 'no GPU'}{memory}{free}{new}{key}"


def plan_rows(plan: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What, value, whose wish."""
    sources = plan["sources"]
    worst = plan["worst_case_usd"]
    price = f"{dollars(plan['price_usd_per_hour'])}/h" + (f", at most {dollars(worst)}" if worst else "")
    pulled = ", will be pulled" if plan["pull"] else ""
    rows = [
        ("does", does(plan), ""),
        *(("machine", machine_text(node), "") for node in plan.get("nodes") or ()),
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
