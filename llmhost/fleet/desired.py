"""From what should serve (ledger, settings) to what the supervisor runs. Pure: nothing is read or started here."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llmhost.core.ledger import GatewayRecord, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.server_config import BackendConfig, ServerConfig
from llmhost.tunnel.spec import ChildSpec, Listen, Probe

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

GATEWAY = "gateway"
OLLAMA = "ollama"
STATUS_PATH = "/internal/status"
# Ollama's own wait for a model that is being unloaded, with room for a slow disk.
OLLAMA_GRACE_S = 6.0


def server_argv() -> tuple[str, ...]:
    """The server program, whichever of its two places it takes. `-P` keeps the working directory out of the import path."""
    return (sys.executable, "-P", "-m", "llmhost.proxy")


def child_name(node_id: str) -> str:
    return f"node-{node_id}"


def specs_of(
    nodes: list[NodeRecord], gateway: GatewayRecord, settings: Settings, paths: Paths, gateway_token: str
) -> list[ChildSpec]:
    """Every child in starting order: Ollama where we start it, the node proxies, the gateway in front of the first node."""
    specs = [spec for node in nodes if (spec := ollama_spec(node.spec))]
    specs += [node_spec(node, settings, paths) for node in nodes]
    if nodes:
        specs.append(gateway_spec(nodes[0], gateway, settings, paths, gateway_token))
    return specs


def ollama_spec(spec: dict[str, Any]) -> ChildSpec | None:
    """`ollama serve` under the lifeline; None when the node uses a server that was there already."""
    if "ollama_bin" not in spec:
        return None
    lifeline = (sys.executable, "-P", "-m", "llmhost.tunnel.lifeline", "--")
    return ChildSpec(
        name=OLLAMA,
        argv=(*lifeline, spec["ollama_bin"], "serve"),
        env=spec["ollama_env"],
        probe=Probe("/api/version", urlsplit(spec["ollama_url"]).netloc),
        grace_s=OLLAMA_GRACE_S,
    )


def node_spec(node: NodeRecord, settings: Settings, paths: Paths) -> ChildSpec:
    """The proxy in front of a local node's backend, on the node's Unix socket."""
    path = str(paths.node_socket(node.id).absolute())
    backend = BackendConfig(
        kind="ollama" if node.backend == "ollama" else "rehearsal",
        url=node.spec.get("ollama_url"),
        model=node.model,
        context=node.context,
        node_id=node.id,
    )
    config = ServerConfig(
        name=child_name(node.id),
        token=node.token,
        backend=backend,
        timing=settings.timing(),
        socket=path,
        log_level=settings.log_level,
        lifeline=True,
    )
    probe = Probe(STATUS_PATH, f"unix:{path}", node.token)
    return ChildSpec(child_name(node.id), server_argv(), as_json(config), probe=probe, sockets=(path,))


def gateway_spec(node: NodeRecord, gateway: GatewayRecord, settings: Settings, paths: Paths, token: str) -> ChildSpec:
    """The gateway: the same program on the port that clients know, with the cache, in front of a node."""
    url = f"unix:{paths.node_socket(node.id).absolute()}"
    config = ServerConfig(
        name=GATEWAY,
        token=token,
        backend=BackendConfig(kind="node", url=url, token=node.token, node_id=node.id),
        cache=settings.cache_config(),
        timing=settings.timing(),
        log_level=settings.log_level,
        lifeline=True,
    )
    listen = Listen(gateway.port, gateway.explicit)
    return ChildSpec(GATEWAY, server_argv(), as_json(config), listen=listen, probe=Probe(STATUS_PATH, token=token))


def as_json(config: ServerConfig) -> dict[str, Any]:
    """As it arrives: lists for tuples, so that a spec equals its copy at the other end of the control socket."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain
