"""One node in `status`: on this machine a process, elsewhere what its link knows of it, and what a rented machine costs. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from llmhost.core.gpu import GpuFigures
from llmhost.core.ledger import NodeRecord
from llmhost.fleet.desired import DRAINING, INSTALLING, LEAVING, child_name, is_remote, phase_of
from llmhost.fleet.observed import Observed
from llmhost.fleet.status_rental import boot_reason, boot_state, gone_reason, money_of

# What a child of the supervisor is to the contract's enumeration of node states, before its own word is heard.
_NODE_STATES = {
    "starting": "loading",
    "up": "ready",
    "degraded": "unreachable",
    "restarting": "degraded",
    "failed": "failed",
    "stopping": "draining",
}
# The same for a link; `degraded` = the machine is reached and its proxy does not answer.
_OVER_LINK = {"up": "ready", "degraded": "degraded"}
_PHASES = {INSTALLING: "installing", DRAINING: "draining", LEAVING: "destroying"}
_PROXY_HEALTH = {"starting": "starting", "up": "ok", "stopping": "ok"}
_SSH_HEALTH = {"up": "ok", "degraded": "ok", "connecting": "starting", "reconnecting": "failed", "failed": "failed"}
_PROXY_OVER_LINK = {"up": "ok", "degraded": "failed"}
_TUNNEL = ("state", "transport", "local", "rtt_ms", "reconnects", "since", "reason", "next_try_at")
_MORE_TUNNEL = ("reason_text", "attempts", "last_ok_at")
GOES_ON = "it is being set up just now"
AT_REST = "the market says that its machine is "
_INTERRUPTED = "its installation was interrupted"


def node_view(node: NodeRecord, seen: Observed) -> dict[str, Any]:
    """The contract's picture of a node, `context`, `restarts`, `reason` and `host` besides."""
    part = part_of(node, seen)
    reading = (part or {}).get("reading") or {}
    model = reading.get("model") or {}
    over_ssh, rental = is_remote(node), seen.books.rental_of(node)
    return {
        "id": node.id,
        "provider": node.provider,
        "host": _host(node),
        "state": _state(node, part, reading, seen),
        "model": model.get("id") or node.model,
        "context": model.get("context") or node.context,
        "backend": node.backend,
        "health": _health(node, part, reading, seen),
        "uptime_s": reading.get("uptime_s") if over_ssh else _uptime(part),
        **money_of(rental, seen.books.now),
        **_gpu(node, reading, seen),
        "tokens_per_second": (reading.get("requests") or {}).get("tokens_per_second"),
        "in_flight": (reading.get("requests") or {}).get("in_flight"),
        "tunnel": tunnel_view(node, part, seen) if over_ssh else None,
        "restarts": None if over_ssh or not part else part["restarts"],
        "reason": _reason(node, part, reading, seen),
    }


def part_of(node: NodeRecord, seen: Observed) -> dict[str, Any] | None:
    """What the supervisor has of a node: its process, or its link."""
    return seen.links.get(node.id) if is_remote(node) else seen.children.get(child_name(node.id))


def tunnel_view(node: NodeRecord, link: dict[str, Any] | None, seen: Observed) -> dict[str, Any]:
    """The contract's `tunnel`. Of a supervisor that does not answer nothing is known, without one the link is stopped."""
    if link is None:
        nothing = dict.fromkeys((*_TUNNEL, *_MORE_TUNNEL))
        state = None if seen.supervisor == "silent" else "stopped"
        return {**nothing, "state": state, "transport": node.spec.get("transport")}
    return {name: link.get(name) for name in (*_TUNNEL, *_MORE_TUNNEL)}


def _state(node: NodeRecord, part: dict[str, Any] | None, reading: dict[str, Any], seen: Observed) -> str:
    phase, rental = phase_of(node), seen.books.rental_of(node)
    if rental is not None and (phase == INSTALLING or rental.state == "destroying"):
        return boot_state(rental)
    if rental is not None and not rental.is_open:
        return "failed"
    if phase is not None:
        return _PHASES[phase]
    if is_remote(node):
        state = _OVER_LINK.get(part["state"], "unreachable") if part else "unreachable"
    elif part is None:
        return "unreachable" if seen.supervisor == "silent" else "failed"
    else:
        state = _NODE_STATES[part["state"]]
    if state != "ready" or reading.get("ready"):
        return state
    return "degraded" if (reading.get("backend") or {}).get("state") == "failed" else "loading"


def _health(
    node: NodeRecord, part: dict[str, Any] | None, reading: dict[str, Any], seen: Observed
) -> dict[str, str | None]:
    components = (reading.get("backend") or {}).get("components") or {}
    return {
        "ssh": _ssh_health(part) if is_remote(node) else None,
        "ollama": components.get("ollama", "unknown") if node.backend == "ollama" else None,
        "model": _model_health(reading),
        "proxy": _proxy_health(node, part, seen),
    }


def _ssh_health(link: dict[str, Any] | None) -> str:
    return _SSH_HEALTH.get(link["state"], "unknown") if link else "unknown"


def _proxy_health(node: NodeRecord, part: dict[str, Any] | None, seen: Observed) -> str:
    if is_remote(node):
        return _PROXY_OVER_LINK.get(part["state"], "unknown") if part else "unknown"
    if part is None:
        return "unknown" if seen.supervisor == "silent" else "failed"
    return _PROXY_HEALTH.get(part["state"], "failed")


def _model_health(reading: dict[str, Any]) -> str:
    if not reading:
        return "unknown"
    if reading.get("ready"):
        return "ok"
    return "failed" if (reading.get("backend") or {}).get("state") == "failed" else "starting"


def _reason(node: NodeRecord, part: dict[str, Any] | None, reading: dict[str, Any], seen: Observed) -> str | None:
    rental = seen.books.rental_of(node)
    if rental is not None and (phase_of(node) == INSTALLING or rental.state == "destroying"):
        return boot_reason(rental, at_work=seen.at_work)
    if rental is not None and not rental.is_open:
        return gone_reason(rental)
    if phase_of(node) == INSTALLING:
        return GOES_ON if seen.at_work else _INTERRUPTED
    if phase_of(node) == LEAVING:
        return "it has still to be removed from its machine"
    if part is None:
        return seen.why or ("its link is closed" if is_remote(node) else "it is not running")
    if part["state"] == "up" and not reading.get("ready"):
        return (reading.get("backend") or {}).get("detail") or None
    reason: str | None = part.get("reason_text") or part["reason"]
    resting = seen.books.at_rest(node) if part["state"] != "up" else None
    return AT_REST + resting if resting else reason


def _host(node: NodeRecord) -> str | None:
    target = node.spec.get("target")
    if not target:
        return None
    from llmhost.ssh.target import SshTarget

    return str(SshTarget.from_dict(target))


def _uptime(child: dict[str, Any] | None) -> float | None:
    if not child or not child["pid"] or not child["since"]:
        return None
    return round((datetime.now(UTC) - datetime.fromisoformat(child["since"])).total_seconds(), 1)


def _gpu(node: NodeRecord, reading: dict[str, Any], seen: Observed) -> dict[str, Any]:
    nothing: dict[str, Any] = dict.fromkeys(GpuFigures.__slots__)
    if not is_remote(node):
        return seen.gpu or nothing
    machine = node.spec.get("machine") or {}
    rental = seen.books.rental_of(node)
    known = {
        "gpu": machine.get("gpu") or (rental.gpu if rental else None),
        "vram_total_mb": machine.get("vram_total_mb"),
    }
    return reading.get("gpu") or {**nothing, **known}
