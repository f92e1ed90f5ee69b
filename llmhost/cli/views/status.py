"""`llmhost status` for people: totals, the Thinkers (nodes), the gateway, the Rememberer (cache), advice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmhost.cli.views.quantities import UNKNOWN, clock, count, dollars, duration, milliseconds, moment, percent, size

if TYPE_CHECKING:
    from rich.console import RenderableType

ADVICE_SHOWN = 3
GOOD = frozenset({"ready", "up", "ok"})
BAD = frozenset({"failed", "down", "unreachable", "off"})
NO_MODEL = "No model is behind this: the rehearsal backend answers, to prove the way without one."


def view(data: dict[str, Any]) -> Iterable[RenderableType]:
    """The panels of a status."""
    from rich.text import Text

    fleet = data["fleet"]
    yield Text(totals(fleet), style="bold")
    if any(node["backend"] == "rehearsal" for node in fleet["nodes"]):
        yield Text(NO_MODEL, style="yellow")
    yield _panel("Thinkers", _nodes(fleet["nodes"]))
    links = [node for node in fleet["nodes"] if node["tunnel"]]
    if links:
        yield _panel("Links", _links(links))
    yield _panel("Gateway", _pairs(gateway_rows(data)))
    if fleet["nodes"]:
        yield cache_panel(data["cache"])
    yield from _orphans(fleet["orphans"])
    yield from _advice(data["advice"])


def totals(fleet: dict[str, Any]) -> str:
    """The first line: what it costs."""
    nodes = len(fleet["nodes"])
    parts = [
        f"fleet {fleet['name']}",
        f"{nodes} node{'' if nodes == 1 else 's'}",
        f"{dollars(fleet['price_usd_per_hour'])}/h",
        f"spent {dollars(fleet['spent_usd'])}",
    ]
    if fleet["budget_usd"] is not None:
        parts.append(f"of {dollars(fleet['budget_usd'])}")
    if fleet["lease_ends_at"]:
        parts.append(f"until {moment(fleet['lease_ends_at'])}")
    if fleet["inventory_age_s"] is not None:
        parts.append(f"as of {duration(fleet['inventory_age_s'])} ago")
    return " · ".join(parts)


def node_row(node: dict[str, Any]) -> tuple[str, ...]:
    """One line of the Thinkers."""
    health = " ".join(f"{name}:{state}" for name, state in node["health"].items() if state not in (None, "unknown"))
    machine = " ".join(filter(None, (node.get("host"), node["instance_id"], node["gpu"]))) or node["provider"]
    speed = UNKNOWN if node["tokens_per_second"] is None else f"{node['tokens_per_second']:.0f} tok/s"
    price = f"{dollars(node['price_usd_per_hour'])}/h"
    return (
        node["id"],
        node["state"],
        machine,
        served(node),
        duration(node["uptime_s"]),
        speed,
        price,
        health,
    )


def served(node: dict[str, Any]) -> str:
    """What a node answers with: `qwen3-coder:30b on ollama`, or `rehearsal`. A machine without a node has nothing yet."""
    backend, model = node["backend"] or UNKNOWN, node["model"]
    return backend if model in (None, backend) else f"{model} on {backend}"


def gateway_rows(data: dict[str, Any]) -> list[tuple[str, str]]:
    """The gateway, its requests and the prefix reuse behind it."""
    gateway, requests, prefix = data["gateway"], data["requests"], data["prefix"]
    window = f", window {count(gateway['context'])} tokens" if gateway["context"] else ""
    asked = f"{count(requests['total'])}, {count(requests['errors'])} failed, {count(requests['in_flight'])} running"
    reason = f": {gateway['reason']}" if gateway.get("reason") else ""
    if gateway["url"] is None:
        return [("state", f"{gateway['state'] or UNKNOWN}{reason}")]
    return [
        ("state", f"{gateway['state'] or UNKNOWN}{reason}"),
        ("address", gateway["url"]),
        ("model", f"{gateway['model'] or UNKNOWN}{window}"),
        ("requests", asked),
        ("time", f"half within {milliseconds(requests['p50_ms'])}, 99 % within {milliseconds(requests['p99_ms'])}"),
        ("first token", f"half within {milliseconds(requests['ttft_p50_ms'])}"),
        ("prefix reuse", f"{percent(prefix['reuse_ratio'])} of {count(prefix['prompt_tokens'])} prompt tokens"),
    ]


def cache_rows(cache: dict[str, Any]) -> list[tuple[str, str]]:
    """What the cache holds and saved."""
    exact, semantic = cache["exact"], cache["semantic"]
    why = f": {cache['detail']}" if cache.get("detail") and cache["state"] != "ok" else ""
    kept = f", kept in {cache['store']}" if cache["store"] else ""
    rows = [
        ("state", f"{cache['state'] or UNKNOWN}{kept}{why}"),
        ("hit ratio", percent(cache["hit_ratio"])),
        ("holds", f"{count(cache['entries'])} answers, {size(cache['memory_bytes'])}"),
        ("exact", _asked(exact)),
    ]
    if any(semantic.values()):
        rows.append(("semantic", _asked(semantic)))
    rows.append(("saved", f"{count(cache['saved_tokens'])} tokens, {duration(cache['saved_seconds'])}"))
    return rows


def cache_panel(cache: dict[str, Any]) -> RenderableType:
    """The Rememberer."""
    return _panel("Rememberer", _pairs(cache_rows(cache)))


def _asked(kind: dict[str, Any]) -> str:
    return f"{count(kind['hits'])} hits, {count(kind['misses'])} misses, {count(kind['bypass'])} not asked"


def _panel(title: str, body: RenderableType) -> RenderableType:
    from rich.panel import Panel

    return Panel(body, title=title, title_align="left")


def _nodes(nodes: list[dict[str, Any]]) -> RenderableType:
    from rich.table import Table

    if not nodes:
        return "none; start one with: llmhost up --provider local"
    table = Table(box=None, pad_edge=False)
    for title in ("node", "state", "machine", "model", "up for", "speed", "price", "health"):
        table.add_column(title, overflow="fold")
    for node in nodes:
        name, state, *rest = node_row(node)
        table.add_row(name, _coloured(state), *rest)
    return table


def link_row(node: dict[str, Any]) -> tuple[str, ...]:
    """One line of the Links."""
    link = node["tunnel"]
    trip = UNKNOWN if link["rtt_ms"] is None else f"{link['rtt_ms']:.1f} ms"
    next_try = f"; next try at {clock(link['next_try_at'])}" if link["next_try_at"] else ""
    why = "" if link["state"] == "up" else f"{link.get('reason_text') or link['reason'] or ''}{next_try}"
    state = link["state"] or UNKNOWN
    return (node["id"], state, link["transport"] or UNKNOWN, clock(link["since"]), trip, count(link["reconnects"]), why)


def _links(nodes: list[dict[str, Any]]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("node", "link", "by", "since", "round trip", "reconnects", "reason"):
        table.add_column(title, overflow="fold")
    for node in nodes:
        name, state, *rest = link_row(node)
        table.add_row(name, _coloured(state), *rest)
    return table


def _pairs(rows: list[tuple[str, str]]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, _coloured(value))
    return table


def _coloured(text: str) -> RenderableType:
    from rich.text import Text

    first = text.replace(":", ",").partition(",")[0]
    style = "green" if first in GOOD else "red" if first in BAD else ""
    return Text(text, style=style)


def _orphans(orphans: list[dict[str, Any]]) -> Iterable[RenderableType]:
    from rich.text import Text

    for orphan in orphans:
        yield Text(orphan_text(orphan), style="red" if orphan["ours"] else "dim")


def orphan_text(orphan: dict[str, Any]) -> str:
    """One line about a machine that is in no fleet."""
    cost = f"{orphan['instance_id']} at {dollars(orphan['price_usd_per_hour'])}/h since {moment(orphan['since'])}"
    if orphan["ours"]:
        return f"not in any fleet, but billing: {cost}"
    return f"also rented in this account, not by this installation: {cost} ({orphan['label'] or 'no label'})"


def _advice(advice: list[dict[str, str]]) -> Iterable[RenderableType]:
    from rich.text import Text

    for item in advice[:ADVICE_SHOWN]:
        command = f"\n  {item['command']}" if item.get("command") else ""
        yield Text(f"→ {item['text']}{command}")
