"""`llmhost up` for people: what it is going to do, and what to type next."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmhost.cli.views.quantities import clock, count, dollars, duration, size
from llmhost.cli.views.status import NO_MODEL, served

if TYPE_CHECKING:
    from rich.console import RenderableType

MIB = 1024 * 1024
VAST = "vast"
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


RENTED = {
    "create": "rent {new}, set it up, and start the gateway here",
    "replace": "rent {new}, then let {leaving} go",
    "extend": "rent {new} beside {kept}",
    "change": "change what {changed} serves, in place",
    "replace_gateway": "replace the gateway; {kept} stays",
    "keep": "look after {kept}; what was asked for is there (what does not run here is started)",
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
    if data["plan"].get("provider") == VAST:
        yield from bills(data["plan"])
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
    if plan.get("provider") == VAST:
        return _does_rented(plan)
    words = OVER_SSH if plan.get("nodes") else ACTIONS
    leaving = ", ".join(plan.get("leaving") or ())
    new = ", ".join(node["id"] for node in plan.get("nodes") or () if node["action"] == "create")
    text = words.get(plan["action"], plan["action"]).format(node=plan["node"], leaving=leaving, new=new)
    return f"{text}, then let {leaving} go" if leaving and not plan.get("nodes") else text


def _does_rented(plan: dict[str, Any]) -> str:
    by_action: dict[str, list[str]] = {"create": [], "keep": [], "change": []}
    for node in plan["nodes"]:
        by_action[node["action"]].append(node["id"])
    there = by_action["keep"] + by_action["change"]
    words = {
        "new": by_action["create"],
        "kept": there,
        "changed": by_action["change"] or there,
        "leaving": plan["leaving"],
    }
    return RENTED[plan["action"]].format(**{name: ", ".join(ids) or "nothing" for name, ids in words.items()})


def rented_text(node: dict[str, Any]) -> str:
    """A rented machine: `n1 RTX 4090, $0.363/h, instance 33402296`."""
    number = f", instance {node['instance_id']}" if node["instance_id"] else ", new"
    changed = ", changed" if node["action"] == "change" else ""
    return f"{node['id']} {node['gpu']}, {hourly(node['price_usd_per_hour'])}{number}{changed}"


def offer_text(offer: dict[str, Any]) -> str:
    """`32493628 RTX 4090 in Sweden, SE: $0.363/h, $0.381/h with download and boot, reliability 0.997, ready in 8 min`."""
    return (
        f"{offer['id']} {offer['gpu']} in {offer['region'] or 'an unknown place'}: {hourly(offer['price_usd_per_hour'])}, "
        f"{hourly(offer['effective_usd_per_hour'])} with download and boot, reliability {offer['reliability']:.3f}, "
        f"ready in about {offer['minutes_to_ready']:.0f} min"
    )


def bills(plan: dict[str, Any]) -> Iterable[str]:
    """What it costs and when it ends, in lines."""
    worst = "" if plan["worst_case_usd"] is None else f", at most {dollars(plan['worst_case_usd'])} until then"
    ends = f"it ends at {clock(plan['lease_ends_at'])}" if plan["lease_ends_at"] else "it has no end (--lease none)"
    yield f"price: {hourly(plan['price_usd_per_hour'])}; {ends}{worst}"


def money_rows(plan: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What it costs at most, and what ends it."""
    sources = plan["sources"]
    lease = f"until {clock(plan['lease_ends_at'])}" if plan["lease_ends_at"] else "none: it bills until you end it"
    worst = dollars(plan["worst_case_usd"]) if plan["worst_case_usd"] is not None else "no bound, as there is no lease"
    spares = [offer["price_usd_per_hour"] for offer in plan["spare_offers"]]
    dearer = f"; a machine that takes a failed one's place costs up to {hourly(max(spares))}" if spares else ""
    download = f", and {dollars(plan['download_usd'])} for the download" if plan["download_usd"] else ""
    return [
        ("price", f"{hourly(plan['price_usd_per_hour'])}{download}{dearer}", ""),
        ("lease", lease, sources.get("lease", "")),
        (
            "idle",
            f"ends after {duration(plan['idle_s'])} without a request" if plan["idle_s"] else "off",
            sources.get("idle", ""),
        ),
        ("worst case", worst, ""),
        ("budget", dollars(plan["budget_usd"]) if plan["budget_usd"] else "none", sources.get("budget", "")),
        ("credit", dollars(plan["credit_usd"]) if plan["credit_usd"] is not None else "not known", ""),
    ]


def hourly(usd: float) -> str:
    """`$0.363/h`: a tenth of a cent matters in an hour."""
    return f"${usd:,.3f}/h"


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
    rented = plan["provider"] == VAST
    worst = plan["worst_case_usd"]
    price = f"{dollars(plan['price_usd_per_hour'])}/h" + (f", at most {dollars(worst)}" if worst else "")
    pulled = ", will be pulled" if plan["pull"] else ""
    rows = [
        ("does", does(plan), ""),
        *(("machine", rented_text(node) if rented else machine_text(node), "") for node in plan.get("nodes") or ()),
        *(("offer", offer_text(offer), "") for offer in (plan["offers"] if rented else ())),
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
        *(money_rows(plan) if rented else [("price", price, "")]),
    ]
    if plan["starts_ollama"]:
        rows.append(("starts", "ollama serve, because no Ollama answers", ""))
    return [*rows, ("why", plan["why"], "")] if plan["why"] else rows
