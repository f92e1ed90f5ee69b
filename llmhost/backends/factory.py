"""Opens the backend a configuration names. Each is imported only when it is used."""

from __future__ import annotations

from llmhost.backends.base import Backend
from llmhost.core.server_config import BackendConfig, NodeConfig, Timing


def open_backend(config: BackendConfig, timing: Timing, nodes: tuple[NodeConfig, ...] = ()) -> Backend:
    """A backend, not started yet. `nodes` are those of kind `fleet`. Raises ValueError on an unknown kind or a missing url."""
    if config.kind in ("fleet", "node"):
        from llmhost.backends.fleet.backend import FleetBackend

        return FleetBackend(nodes if config.kind == "fleet" else (_only_node(config),), timing)
    if config.kind == "ollama":
        from llmhost.backends.ollama.backend import OllamaBackend

        return OllamaBackend(config, timing)
    if config.kind == "rehearsal":
        from llmhost.backends.rehearsal.backend import RehearsalBackend

        return RehearsalBackend(config, timing)
    raise ValueError(f"unknown backend {config.kind!r}")


def _only_node(config: BackendConfig) -> NodeConfig:
    if not config.url:
        raise ValueError("backend node needs the node's url")
    return NodeConfig(config.node_id or "node", config.url, config.token or "", config.parallel)
