"""Opens the backend a configuration names. Each is imported only when it is used."""

from __future__ import annotations

from llmhost.backends.base import Backend
from llmhost.core.server_config import BackendConfig, Timing


def open_backend(config: BackendConfig, timing: Timing) -> Backend:
    """A backend, not started yet. Raises ValueError on an unknown kind or a missing url."""
    if config.kind == "node":
        from llmhost.backends.node import NodeBackend

        return NodeBackend(config, timing)
    if config.kind == "ollama":
        from llmhost.backends.ollama.backend import OllamaBackend

        return OllamaBackend(config, timing)
    if config.kind == "rehearsal":
        from llmhost.backends.rehearsal.backend import RehearsalBackend

        return RehearsalBackend(config, timing)
    raise ValueError(f"unknown backend {config.kind!r}")
