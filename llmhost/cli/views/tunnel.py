"""`llmhost tunnel` for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmhost.cli.views.quantities import UNKNOWN, clock


def view(data: dict[str, Any]) -> Iterable[str]:
    """Each link and the gateway; what became of --stop and of --repin."""
    if "stopped" in data:
        yield "the tunnel is closed; nodes on other machines run on" if data["stopped"] else "the tunnel was not open"
        return
    if "repinned" in data:
        yield from _repinned(data["repinned"])
        return
    for link in data["tunnels"]:
        yield link_text(link)
    gateway = data["gateway"]
    if gateway:
        yield f"gateway  {gateway['state'] or UNKNOWN}{'  ' + gateway['url'] if gateway['url'] else ''}"


def link_text(link: dict[str, Any]) -> str:
    """`n1  up  me@gpu.example  openssh  12 ms  2 reconnects`."""
    parts = [link["id"], link["state"] or UNKNOWN, link["host"], link["transport"]]
    if link["rtt_ms"] is not None:
        parts.append(f"{link['rtt_ms']:.1f} ms")
    if link["reconnects"]:
        parts.append(f"{link['reconnects']} reconnect{'' if link['reconnects'] == 1 else 's'}")
    if link["state"] != "up" and link.get("reason_text"):
        parts.append(link["reason_text"])
    if link.get("next_try_at"):
        parts.append(f"next try at {clock(link['next_try_at'])}")
    return "  ".join(parts)


def change_text(change: dict[str, Any]) -> str:
    """A line of `--foreground`."""
    reason = f": {change['reason']}" if change["reason"] else ""
    return f"{clock(change['time'])} {change['name']} {change['state']}{reason}"


def repin_view(change: dict[str, Any]) -> Iterable[str]:
    """Before the question: what was trusted, and what is shown now."""
    yield f"{change['id']} ({change['host']})"
    yield f"  trusted until now: {' '.join(change['old']) or 'none'}"
    yield f"  shown now:         {change['new']}"


def _repinned(change: dict[str, Any]) -> Iterable[str]:
    if not change["changed"]:
        yield f"{change['id']} shows the key that is trusted: {change['new']}"
        return
    yield f"{change['id']} is trusted with {change['new']} from now on"
