"""The links that should be open: one for each node on another machine. Pure, apart from where the agent is now."""

from __future__ import annotations

import os
from typing import Any

from llmhost.core.errors import LlmhostError, NotReady
from llmhost.core.guard_files import CONTACT
from llmhost.core.ledger import NodeRecord
from llmhost.core.paths import Paths
from llmhost.fleet.desired import STATUS_PATH, VAST, is_remote, serving
from llmhost.ssh.failures import failure
from llmhost.ssh.identity import AGENT_SOCKET
from llmhost.ssh.pins import Pins
from llmhost.ssh.target import SshTarget
from llmhost.supervisor.client import SupervisorClient
from llmhost.supervisor.spec import Probe
from llmhost.tunnel.spec import LinkSpec, LinkTiming


def pins_of(paths: Paths) -> Pins:
    """Where the host keys of the nodes are kept."""
    return Pins(paths.state_dir / "hosts")


def link_specs(nodes: list[NodeRecord], paths: Paths, timing: dict[str, Any]) -> list[LinkSpec]:
    """A link for every node over SSH that serves. `timing` as `Settings.link_timing` has it; {} = the defaults."""
    elsewhere = [node for node in serving(nodes) if is_remote(node)]
    return [link_spec(node, paths, LinkTiming(**timing)) for node in elsewhere]


def link_spec(node: NodeRecord, paths: Paths, timing: LinkTiming) -> LinkSpec:
    """From what the ledger says of a node to its link."""
    spec, local = node.spec, str(paths.node_socket(node.id).absolute())
    return LinkSpec(
        name=node.id,
        target=SshTarget.from_dict(spec["target"]),
        local=local,
        remote_socket=spec["remote_socket"],
        remote_port=spec.get("remote_port"),
        known_hosts=str(pins_of(paths).path(spec["alias"]).absolute()),
        alias=spec["alias"],
        identity=spec.get("key"),
        agent=os.environ.get(AGENT_SOCKET) if spec.get("agent") else None,
        transport=spec["transport"],
        beat=CONTACT if node.provider == VAST else None,
        probe=Probe(STATUS_PATH, f"unix:{local}", node.token),
        timing=timing,
    )


def kick(client: SupervisorClient, name: str | None = None) -> None:
    """Let the links that are down try now, or the one of that name. A supervisor without links has nothing to try."""
    links = client.ask("wanted").get("links") or []
    if any(name in (None, link["name"]) for link in links):
        client.ask("kick", name=name)


def link_failure(node: NodeRecord, link: dict[str, Any] | None) -> LlmhostError:
    """Why a link is not up, as an error: with the exit code of its reason when it failed for good, else as not ready (7)."""
    target = SshTarget.from_dict(node.spec["target"])
    if link is None or link["state"] not in ("failed", "reconnecting", "connecting"):
        return NotReady(f"the link to {node.id} ({target}) is closed.", hint="llmhost tunnel", code="tunnel_closed")
    code, text = link.get("reason") or "not_ready", link.get("reason_text") or "it is not up yet"
    message = f"{node.id} cannot be reached: {text}"
    if link["state"] != "failed":
        return NotReady(message, hint=f"llmhost logs {node.id} --source tunnel", code=code)
    pattern = failure(code, target)
    hint = pattern.hint.replace("--repin NODE", f"--repin {node.id}") if pattern.code == code else "llmhost tunnel"
    return type(pattern)(message, hint=hint, code=code)
