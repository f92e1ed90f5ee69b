"""`llmhost tunnel`: supervisor, links and gateway opened from the ledger, closed, and looked at. Nodes are left as they are."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import LlmhostError, NotReady
from llmhost.core.ledger import GatewayRecord, Ledger
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.result import Result
from llmhost.fleet.commit import Desk, gateway_token, hold, no_fleet, restart, send
from llmhost.fleet.desired import LOCAL, SUPERVISOR, VAST, is_remote, serving
from llmhost.fleet.links import kick, link_failure
from llmhost.fleet.observed import Observed, observe
from llmhost.fleet.status import status
from llmhost.supervisor.client import SupervisorClient
from llmhost.supervisor.launch import end_supervisor, ensure_supervisor, find_supervisor, is_running

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# A link is up within a second where it can be; a host that does not answer is given up after its connect time-out, and tried again.
OPEN_S = 15.0
STOP_S = 20.0
POLL_S = 0.05
WATCH_S = 0.5
_SETTLED = ("up", "degraded", "failed")


def open_tunnel(settings: Settings, paths: Paths, port: int | None, progress: Progress) -> Result:
    """Have supervisor, links and gateway run; idempotent. Links that are down are tried at once and waited for, for a bounded time.

    `data` = `{gateway, tunnels: [{id, …the contract's tunnel}]}`. A link that is not up is an error with its typed reason. Raises NotReady
    (`no_fleet`), LlmhostError (`port_in_use`, …).
    """
    paths.create()
    if not serving(observe(paths, settings.fleet).nodes):
        raise no_fleet(settings.fleet)
    progress.phase("tunnel", "opening the links and the gateway")
    started_here = not is_running(paths)
    with Ledger.open(paths.ledger_file) as ledger, ensure_supervisor(paths, progress.note, module=SUPERVISOR) as client:
        desk = Desk(ledger, client, settings, paths, gateway_token(paths))
        try:
            restart(desk, keep=True)
            _move(desk, port)
        except LlmhostError:
            if started_here and not client.wanted():
                end_supervisor(client)
            raise
        kick(client)
    _wait_until_settled(settings, paths)
    return look_at_tunnel(settings, paths, complain=True)


def close_tunnel(settings: Settings, paths: Paths, progress: Progress) -> Result:
    """End gateway, links and supervisor; nodes on other machines run on, and `llmhost tunnel` opens the way to them again.

    While anything is rented, the supervisor stays with the watch over it.
    """
    seen = observe(paths, settings.fleet)
    here = [node.id for node in seen.nodes if node.provider == LOCAL]
    client = find_supervisor(paths)
    left: list[int] = []
    if client is not None:
        progress.phase("stop", "closing the links and the gateway; requests in flight may finish first")
        with client:
            left = _close(client, settings, paths)
    warnings = [f"{', '.join(here)} ran on this machine and stopped with it."] if here and client else []
    rented = [node.id for node in seen.nodes if node.provider == VAST]
    if rented:
        minutes = f"{settings.vast_contact_s / 60:.0f} minutes"
        warnings.append(
            f"{', '.join(rented)} bills on, and ends itself after {minutes} without a link. To end it now: llmhost down"
        )
    result = Result({"stopped": client is not None, "left": left}, warnings=warnings)
    if left:
        shown = " ".join(map(str, left))
        error = LlmhostError(f"processes {shown} did not end.", hint=f"kill -9 {shown}", code="not_stopped")
        result.errors.append(error.as_dict())
        result.exit_code = error.exit_code
    return result


def _close(client: SupervisorClient, settings: Settings, paths: Paths) -> list[int]:
    """The processes that still run."""
    ledger = Ledger.open_existing(paths.ledger_file)
    if ledger is not None:
        with ledger:
            if ledger.rentals.all(open_only=True):
                send(Desk(ledger, client, settings, paths, gateway_token(paths)), [], None)
                return []
    return end_supervisor(client, timeout_s=STOP_S)


def look_at_tunnel(settings: Settings, paths: Paths, *, complain: bool = False) -> Result:
    """What is known of gateway and links, without waiting for the network. With `complain` each link that is not up is an error."""
    seen = observe(paths, settings.fleet)
    data = status(settings, paths, settings.fleet).data
    tunnels = [
        {"id": node["id"], "host": node["host"], **node["tunnel"]} for node in data["fleet"]["nodes"] if node["tunnel"]
    ]
    result = Result({"gateway": data["gateway"], "tunnels": tunnels})
    if complain:
        result.warnings += _behind_links(seen)
        for error in _complaints(seen):
            result.errors.append(error.as_dict())
            result.exit_code = result.exit_code or error.exit_code
    return result


def watch_tunnel(settings: Settings, paths: Paths) -> Iterator[dict[str, Any]]:
    """Every change of a link's or the gateway's state from now on: `{time, name, state, reason}`; ends with the supervisor.

    Of changes that follow each other faster than it looks the last one is told.
    """
    known: dict[str, tuple[Any, ...]] = {}
    while True:
        seen = observe(paths, settings.fleet)
        if seen.supervisor not in ("running", "silent"):
            return
        parts = [*seen.links.values(), *(child for name, child in seen.children.items() if name == "gateway")]
        for part in parts:
            now = (part["state"], part.get("reason_text") or part.get("reason"), part.get("since"))
            if known.get(part["name"]) != now:
                known[part["name"]] = now
                yield {"time": part.get("since"), "name": part["name"], "state": now[0], "reason": now[1]}
        time.sleep(WATCH_S)


def _move(desk: Desk, port: int | None) -> None:
    """The gateway on a port that was asked for by name."""
    known = desk.ledger.gateway()
    if port is not None and known is not None and (known.port, known.explicit) != (port, True):
        hold(desk, lambda nodes: nodes, GatewayRecord(port, True, known.server))


def _wait_until_settled(settings: Settings, paths: Paths) -> None:
    deadline = time.monotonic() + OPEN_S
    while time.monotonic() < deadline:
        seen = observe(paths, settings.fleet)
        wanted = [node.id for node in serving(seen.nodes) if is_remote(node)]
        states = [(seen.links.get(id) or {}).get("state") for id in wanted]
        gateway = seen.children.get("gateway") or {}
        if all(state in _SETTLED for state in states) and gateway.get("state") == "up":
            return
        time.sleep(POLL_S)


def _behind_links(seen: Observed) -> Iterator[str]:
    """The link is as it should be, but nothing answers behind it."""
    for node in serving(seen.nodes):
        link = seen.links.get(node.id)
        if link is not None and link["state"] == "degraded":
            why = str(link.get("reason_text") or "its proxy does not answer").rstrip(".")
            yield f"{node.id} does not serve: {why}. To start it again: llmhost restart {node.id} --proxy"


def _complaints(seen: Observed) -> Iterator[LlmhostError]:
    for node in serving(seen.nodes):
        link = seen.links.get(node.id)
        if is_remote(node) and (link is None or link["state"] not in ("up", "degraded")):
            yield link_failure(node, link)
    gateway = seen.children.get("gateway")
    if gateway is None or gateway["state"] != "up":
        why = (gateway or {}).get("reason") or seen.why or "it is starting"
        yield NotReady(f"the gateway is not up: {why}.", hint="llmhost logs --source gateway", code="gateway_down")
