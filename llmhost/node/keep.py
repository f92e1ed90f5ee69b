"""What must stay the same over restarts of a node: the ports its services listen on, and how often each was restarted on request."""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass, field
from typing import Any

from llmhost.node.layout import Layout
from llmhost.node.wish import load_json, save_json

HOST = "127.0.0.1"


@dataclass(slots=True)
class Keep:
    """`ports` and `runs` by service. A service whose run number changed is another process to the supervisor, which so replaces it.

    `has_gpu` = a graphics card was seen once, with `vram_mb` MiB of memory (0 = not said); `models` is the folder of
    our own Ollama's models, empty before it was first run.
    """

    ports: dict[str, int] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    has_gpu: bool = False
    models: str = ""
    vram_mb: int = 0

    @classmethod
    def load(cls, layout: Layout) -> Keep:
        data = load_json(layout.keep_file) or {}
        try:
            return cls(
                _numbers(data.get("ports")),
                _numbers(data.get("runs")),
                bool(data.get("has_gpu")),
                str(data.get("models") or ""),
                int(data.get("vram_mb") or 0),
            )
        except (TypeError, ValueError, AttributeError):
            return cls()

    def save(self, layout: Layout) -> None:
        """Raises LlmhostError (`state_unwritable`)."""
        if load_json(layout.keep_file) != asdict(self):
            save_json(layout.keep_file, asdict(self))

    def port(self, service: str, taken_by_us: set[int]) -> int:
        """The service's port: the one it had, unless a stranger has taken it meanwhile."""
        kept = self.ports.get(service)
        if kept is None or (kept not in taken_by_us and not _is_free(kept)):
            self.ports[service] = _free_port()
        return self.ports[service]


def _numbers(data: Any) -> dict[str, int]:
    return {str(name): int(number) for name, number in (data or {}).items()}


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return not _fails(probe, port)


def _fails(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind((HOST, port))
    except OSError:
        return True
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
