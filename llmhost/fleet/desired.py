"""From what should serve (ledger, settings) to what the supervisor runs. Pure: nothing is read or started here."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llmhost.core.ledger import GatewayRecord, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.server_config import BackendConfig, CacheConfig, ServerConfig, Timing
from llmhost.supervisor.spec import ChildSpec, Listen, Probe

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

SUPERVISOR = "llmhost.tunnel.supervisor"
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


def specs_of(nodes: list[NodeRecord], gateway: GatewayRecord, paths: Paths, gateway_token: str) -> list[ChildSpec]:
    """Every child in starting order: Ollama where we start it, the node proxies, the gateway in front of the first node.

    `gateway.server` must be known (`server_settings`).
    """
    specs = [spec for node in nodes if (spec := ollama_spec(node.spec))]
    specs += [node_spec(node, gateway.server, paths) for node in nodes]
    if nodes:
        specs.append(gateway_spec(nodes[0], gateway, paths, gateway_token))
    return specs


def server_settings(settings: Settings) -> dict[str, Any]:
    """All that the servers are told of the settings, as plain values: `cache` (the gateway's), `timing`, `log_level`."""
    return {
        "cache": _plain(settings.cache_config()),
        "timing": _plain(settings.timing()),
        "log_level": settings.log_level,
    }


def server_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what differs (`cache.redis`, `timing.ping`, `log_level`), never the values. What is not known does not differ."""
    if not before:
        return []
    old, new = _flat(before), _flat(after)
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _flat(server: dict[str, Any]) -> dict[str, Any]:
    groups = {name: value for name, value in server.items() if isinstance(value, dict)}
    flat = {f"{group}.{name}": value for group, values in groups.items() for name, value in values.items()}
    return flat | {name: value for name, value in server.items() if name not in groups}


def ollama_spec(spec: dict[str, Any]) -> ChildSpec | None:
    """`ollama serve` under the lifeline; None when the node uses a server that was there already."""
    if "ollama_bin" not in spec:
        return None
    lifeline = (sys.executable, "-P", "-m", "llmhost.supervisor.lifeline", "--")
    return ChildSpec(
        name=OLLAMA,
        argv=(*lifeline, spec["ollama_bin"], "serve"),
        env=spec["ollama_env"],
        probe=Probe("/api/version", urlsplit(spec["ollama_url"]).netloc),
        grace_s=OLLAMA_GRACE_S,
    )


def node_spec(node: NodeRecord, server: dict[str, Any], paths: Paths) -> ChildSpec:
    """The proxy in front of a local node's backend, on the node's Unix socket."""
    path = str(paths.node_socket(node.id).absolute())
    backend = BackendConfig(
        kind="ollama" if node.backend == "ollama" else "rehearsal",
        url=node.spec.get("ollama_url"),
        model=node.model,
        context=node.context,
        node_id=node.id,
    )
    config = ServerConfig(name=child_name(node.id), token=node.token, backend=backend, socket=path, lifeline=True)
    told = _plain(config) | {name: server[name] for name in ("timing", "log_level")}
    probe = Probe(STATUS_PATH, f"unix:{path}", node.token)
    return ChildSpec(child_name(node.id), server_argv(), told, probe=probe, sockets=(path,))


def gateway_spec(node: NodeRecord, gateway: GatewayRecord, paths: Paths, token: str) -> ChildSpec:
    """The gateway: the same program on the port that clients know, with the cache, in front of a node."""
    url = f"unix:{paths.node_socket(node.id).absolute()}"
    config = ServerConfig(
        name=GATEWAY,
        token=token,
        backend=BackendConfig(kind="node", url=url, token=node.token, node_id=node.id),
        lifeline=True,
    )
    told = _plain(config) | gateway.server
    listen = Listen(gateway.port, gateway.explicit)
    return ChildSpec(GATEWAY, server_argv(), told, listen=listen, probe=Probe(STATUS_PATH, token=token))


def _plain(config: ServerConfig | CacheConfig | Timing) -> dict[str, Any]:
    """As it arrives: lists for tuples, so that a spec equals its copy at the other end of the control socket."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain
