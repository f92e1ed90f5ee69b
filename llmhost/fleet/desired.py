"""From what should serve (ledger, settings) to what the supervisor runs. Pure: nothing is read or started here."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llmhost.core.ledger import GatewayRecord, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.server_config import BackendConfig, CacheConfig, NodeConfig, ServerConfig, Timing
from llmhost.supervisor.spec import ChildSpec, Listen, Live, Probe

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

SUPERVISOR = "llmhost.tunnel.supervisor"
GATEWAY = "gateway"
WATCH = "watch"  # the child that watches what is rented (fleet.rented.watch)
OLLAMA = "ollama"
PROXY = "proxy"
RUNS = "runs"  # in a node's spec: how often each service was restarted on request
LOCAL = "local"
SSH = "ssh"
VAST = "vast"
STATUS_PATH = "/internal/status"
NODES_PATH = "/internal/nodes"
ACTIVE_PATH = "/internal/active"  # of a node: somebody uses the fleet
LINKS = "links"
PHASE = "phase"
INSTALLING = "installing"
DRAINING = "draining"
LEAVING = "leaving"
# Ollama's own wait for a model that is being unloaded, with room for a slow disk.
OLLAMA_GRACE_S = 6.0


def server_argv() -> tuple[str, ...]:
    """The server program, whichever of its two places it takes. `-P` keeps the working directory out of the import path."""
    return (sys.executable, "-P", "-m", "llmhost.proxy")


def child_name(node_id: str) -> str:
    return f"node-{node_id}"


def is_remote(node: NodeRecord) -> bool:
    """Whether it runs on another machine, to which a link leads."""
    return node.provider in (SSH, VAST)


def phase_of(node: NodeRecord) -> str | None:
    """Where a node is on its way in or out, None = it serves.

    `installing` = not there yet, or half; `draining` = no new work; `leaving` = gone from the gateway, not yet from its machine.
    """
    phase: str | None = node.spec.get(PHASE)
    return phase


def in_phase(node: NodeRecord, phase: str | None) -> NodeRecord:
    """The same node, further on its way."""
    spec = {name: value for name, value in node.spec.items() if name != PHASE}
    return replace(node, spec=spec if phase is None else {**spec, PHASE: phase})


def serving(nodes: list[NodeRecord]) -> list[NodeRecord]:
    """Those that gateway and links are told of."""
    return [node for node in nodes if phase_of(node) in (None, DRAINING)]


def specs_of(nodes: list[NodeRecord], gateway: GatewayRecord, paths: Paths, gateway_token: str) -> list[ChildSpec]:
    """Every child in starting order: Ollama where we start it, the proxies of the nodes here, the gateway in front of all that serve.

    `gateway.server` must be known (`server_settings`).
    """
    nodes = serving(nodes)
    here = [node for node in nodes if node.provider == LOCAL]
    specs = [spec for node in here if (spec := ollama_spec(node.spec))]
    specs += [node_spec(node, gateway.server, paths) for node in here]
    if nodes:
        specs.append(gateway_spec(nodes, gateway, paths, gateway_token))
    return specs


def server_settings(settings: Settings) -> dict[str, Any]:
    """All that servers and links are told of the settings, as plain values: `cache` (the gateway's), `timing`, `log_level`, `links`."""
    return {
        "cache": _plain(settings.cache_config()),
        "timing": _plain(settings.timing()),
        "log_level": settings.log_level,
        LINKS: settings.link_timing(),
    }


def server_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """The names of what differs (`cache.redis`, `timing.ping`, `log_level`), never the values. What is not known does not differ."""
    # a group that an older release did not write down is not known
    old, new = _flat(before), _flat({name: value for name, value in after.items() if name in before})
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
        env={**spec["ollama_env"], **_run_number(spec, OLLAMA)},
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
    env = _run_number(node.spec, PROXY)
    return ChildSpec(child_name(node.id), server_argv(), told, env=env, probe=probe, sockets=(path,))


def _run_number(spec: dict[str, Any], service: str) -> dict[str, str]:
    """What makes a restarted process another one than that before."""
    number = (spec.get(RUNS) or {}).get(service, 0)
    return {"LLMHOST_RUN": str(number)} if number else {}


def gateway_spec(nodes: list[NodeRecord], gateway: GatewayRecord, paths: Paths, token: str) -> ChildSpec:
    """The gateway: the same program on the port that clients know, with the cache, in front of the nodes.

    The nodes are its live part: one more or less of them changes nothing about the process.
    """
    config = ServerConfig(name=GATEWAY, token=token, backend=BackendConfig(kind="fleet"), lifeline=True)
    told = _plain(config) | {name: value for name, value in gateway.server.items() if name != LINKS}
    del told["nodes"]  # they come with the live part
    return ChildSpec(
        GATEWAY,
        server_argv(),
        told,
        listen=Listen(gateway.port, gateway.explicit),
        probe=Probe(STATUS_PATH, token=token),
        live=Live(NODES_PATH, {"nodes": [_plain(node_config(node, paths)) for node in nodes]}),
    )


def node_config(node: NodeRecord, paths: Paths) -> NodeConfig:
    """A node as the gateway is told of it: by its socket here, which leads to a process of this machine or into a link."""
    return NodeConfig(
        id=node.id,
        url=f"unix:{paths.node_socket(node.id).absolute()}",
        token=node.token,
        parallel=int(node.spec.get("parallel") or 1),
        draining=phase_of(node) == DRAINING,
    )


def _plain(config: ServerConfig | CacheConfig | Timing | NodeConfig) -> dict[str, Any]:
    """As it arrives: lists for tuples, so that a spec equals its copy at the other end of the control socket."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain
