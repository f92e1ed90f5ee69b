"""Gateways in front of several node proxies, all real processes."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx

from llmhost.backends.fleet.affinity import ranked
from llmhost.core.server_config import BackendConfig, CacheConfig, NodeConfig, Timing
from tests.support.proxy_server import NO_CACHE, ProxyServer, proxy
from tests.support.system import wait_until

FLEET = BackendConfig("fleet")
NODE = "x-llmhost-node"
# Short, but long enough for a loaded machine: what is late here is taken for frozen.
CALM = Timing(first_byte=0.3, ping=0.2, upstream_silence=3.0)
_fresh = itertools.count()


@contextmanager
def node(folder: Path, id: str, **more: Any) -> Iterator[ProxyServer]:
    """A node proxy with the rehearsal backend; `model` is what it says it serves."""
    backend = BackendConfig("rehearsal", model=more.pop("model", None))
    with proxy(folder, more.pop("backend", backend), name=id, **more) as server:
        yield server


def config_of(server: ProxyServer, **more: Any) -> NodeConfig:
    return NodeConfig(**({"id": server.config.name, "url": server.upstream_url, "token": server.config.token} | more))


@contextmanager
def gateway(folder: Path, nodes: Sequence[NodeConfig | ProxyServer], **more: Any) -> Iterator[ProxyServer]:
    """A gateway that knows these nodes, each looked at once when it is handed over."""
    configs = tuple(one if isinstance(one, NodeConfig) else config_of(one) for one in nodes)
    wait = more.pop("wait", "ready")
    with proxy(
        folder, FLEET, name="gateway", nodes=configs, wait=wait, cache=more.pop("cache", NO_CACHE), **more
    ) as server:
        if wait == "ready":
            running = [one.config.name for one in nodes if isinstance(one, ProxyServer)]
            wait_until(lambda: all(states(server)[id] in ("ready", "degraded") for id in running), "the nodes", 20)
        yield server


class Crew:
    """A gateway in front of nodes n1 and n2, shared by tests that kill, freeze and drain them: `whole` puts everything right again."""

    def __init__(self, folder: Path, timing: Timing = CALM) -> None:
        self.folder = folder
        self._timing = timing
        self.nodes: dict[str, ProxyServer] = {}
        self._open = ExitStack()
        for id in ("n1", "n2"):
            self._start(id)
        self.gateway = self._open.enter_context(
            gateway(folder, list(self.nodes.values()), timing=timing, cache=CacheConfig())
        )

    def whole(self) -> Crew:
        """Both nodes run and nothing is remembered of them: a node that was in no list comes as a new one."""
        for id, server in self.nodes.items():
            if server.process.poll() is not None:
                self._start(id)
        put_nodes(self.gateway, [])
        self.put(*self.nodes.values())
        wait_until(lambda: set(states(self.gateway).values()) == {"ready"}, "both nodes", 30)
        return self

    def put(self, *nodes: NodeConfig | ProxyServer) -> int:
        configs = [one if isinstance(one, NodeConfig) else config_of(one) for one in nodes]
        return int(put_nodes(self.gateway, configs).json()["nodes"])

    def kill(self, id: str) -> None:
        self.nodes[id].process.kill()
        self.nodes[id].process.wait()

    def close(self) -> None:
        self._open.close()

    def _start(self, id: str) -> None:
        self.nodes[id] = self._open.enter_context(node(self.folder, id, timing=self._timing))


@contextmanager
def closing_socket(path: str) -> Iterator[str]:
    """What a link looks like with no proxy behind it: ssh accepts, then closes, for the channel was refused over there."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def close_all() -> None:
        with suppress(OSError):
            while True:
                listener.accept()[0].close()

    threading.Thread(target=close_all, daemon=True).start()
    try:
        yield path
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def busy(server: ProxyServer) -> bool:
    return bool(server.status()["requests"]["in_flight"])


def readings(server: ProxyServer) -> dict[str, dict[str, Any]]:
    return {reading["id"]: reading for reading in server.status()["nodes"]}


def states(server: ProxyServer) -> dict[str, str]:
    return {id: reading["state"] for id, reading in readings(server).items()}


def put_nodes(server: ProxyServer, nodes: Sequence[NodeConfig]) -> httpx.Response:
    return server.client.put("/internal/nodes", json={"nodes": [asdict(one) for one in nodes]})


def changed(server: ProxyServer, **more: Any) -> NodeConfig:
    return replace(config_of(server), **more)


def session_on(id: str, ids: Sequence[str] = ("n1", "n2")) -> str:
    """A new session whose conversation belongs to this node."""
    names = (f"session-{number}" for number in _fresh)
    return next(name for name in names if ranked(name.encode(), ids)[0] == id)


def of_session(session: str, agent: str | None = None) -> dict[str, str]:
    """The headers that Claude Code sends for it."""
    return {"x_claude_code_session_id": session} | ({"x_claude_code_agent_id": agent} if agent else {})
