"""What `status` looks at: the ledger and the supervisor's memory, within a fraction of a second, and nothing else."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Literal

from llmhost.core.ledger import GatewayRecord, NodeRecord
from llmhost.core.paths import Paths
from llmhost.fleet.desired import GATEWAY, STATUS_PATH, serving
from llmhost.fleet.rented.books import Books, installation_of, read_books
from llmhost.fleet.rented.rescue import peek
from llmhost.supervisor import lock, logfile
from llmhost.supervisor.client import SupervisorEnded, SupervisorSilent
from llmhost.supervisor.launch import find_supervisor
from llmhost.supervisor.lock import before_boot
from llmhost.supervisor.loopback import request

ANSWER_S = 0.3
NOW_S = 2.0
SupervisorState = Literal["running", "stopping", "silent", "gone", "absent"]


@dataclass(slots=True)
class Observed:
    """`supervisor` is `gone` when something should run and it does not, `absent` when nothing should. `why` explains the former.

    `at_work` = an `up` elsewhere, or a `down`, goes on just now. `books` are of all fleets.
    """

    nodes: list[NodeRecord]
    gateway: GatewayRecord | None
    supervisor: SupervisorState
    hello: dict[str, Any] = field(default_factory=dict)
    children: dict[str, dict[str, Any]] = field(default_factory=dict)
    links: dict[str, dict[str, Any]] = field(default_factory=dict)
    gpu: dict[str, Any] | None = None
    why: str | None = None
    at_work: bool = False
    books: Books = field(default_factory=Books)


def observe(paths: Paths, fleet: str | None) -> Observed:
    """Look once. Raises what the ledger raises, and LlmhostError (`state_unsafe`) for a socket that is another user's."""
    return _observe(paths, *_recorded(paths, fleet))


def observe_damaged(paths: Paths) -> Observed:
    """The same where the ledger cannot be read: what runs, as far as the supervisor knows it."""
    return _observe(paths, [], None, Books(installation=installation_of(paths)))


def _observe(paths: Paths, nodes: list[NodeRecord], gateway: GatewayRecord | None, books: Books) -> Observed:
    seen = _of_supervisor(paths, nodes, gateway)
    seen.books = books
    return seen


def _of_supervisor(paths: Paths, nodes: list[NodeRecord], gateway: GatewayRecord | None) -> Observed:
    try:
        client = find_supervisor(paths, ANSWER_S)
        if client is None:
            return _without_supervisor(paths, nodes, gateway)
        with client:
            reply = client.ask("status", timeout_s=ANSWER_S)
    except SupervisorEnded:
        return _without_supervisor(paths, nodes, gateway)
    except SupervisorSilent as error:
        return Observed(nodes, gateway, "silent", why=error.message)
    state: SupervisorState = "stopping" if reply["stopping"] else "running"
    children = {child["name"]: child for child in reply["children"]}
    return Observed(nodes, gateway, state, reply, children, links_of(reply), reply["gpu"])


def gateway_now(reply: dict[str, Any], token: str | None) -> dict[str, Any]:
    """What the gateway says of itself at this moment; where it does not answer, what the supervisor heard of it last, a second or two ago.

    `reply` is the supervisor's status. {} = there is no gateway, or nothing was heard.
    """
    gateway: dict[str, Any] = next((child for child in reply["children"] if child["name"] == GATEWAY), {})
    heard: dict[str, Any] = gateway.get("reading") or {}
    if not gateway.get("port"):
        return heard
    try:
        answer = request(
            f"127.0.0.1:{gateway['port']}", "GET", STATUS_PATH, token=token, timeout_s=NOW_S, whole_s=NOW_S
        )
    except OSError:
        return heard
    return answer.data if answer.status == HTTPStatus.OK and isinstance(answer.data, dict) else heard


def links_of(reply: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The links in a supervisor's status by name; one that still drains stands behind a new one of its name."""
    return {link["name"]: link for link in reversed(reply.get("links") or ())}


def _recorded(paths: Paths, fleet: str | None) -> tuple[list[NodeRecord], GatewayRecord | None, Books]:
    ledger = peek(paths)
    if ledger is None:
        return [], None, Books()
    with ledger:
        return ledger.nodes(fleet), ledger.gateway(), read_books(ledger, paths)


def _without_supervisor(paths: Paths, nodes: list[NodeRecord], gateway: GatewayRecord | None) -> Observed:
    if not serving(nodes):
        return Observed(nodes, gateway, "absent")
    return Observed(nodes, gateway, "gone", why=explain_absence(paths))


def explain_absence(paths: Paths) -> str:
    """Why no supervisor runs although something should: from the lock file a crash leaves behind, and the last line of the log."""
    holder = lock.read_holder(paths.supervisor_lock)
    if holder is None:
        return _stopped_in_order(paths)
    since = datetime.fromtimestamp(holder.started_at, UTC).isoformat(timespec="seconds")
    if before_boot(holder):
        return f"this machine was restarted since the supervisor started ({since})"
    return f"the supervisor (pid {holder.pid}, running since {since}) was killed or crashed"


def _stopped_in_order(paths: Paths) -> str:
    lines = logfile.tail(paths.log_file("supervisor"), 1)
    try:
        last = json.loads(lines[0]) if lines else {}
    except ValueError:
        last = {}
    if isinstance(last, dict) and last.get("event") == "supervisor_stopped":
        return f"the supervisor was stopped ({last.get('reason')}) at {last.get('time')}"
    return "the supervisor is not running"
