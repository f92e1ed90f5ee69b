"""From what a node was told to run to what its supervisor keeps running. Pure: nothing is read or started here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmhost.core.ollama_environment import serve_environment
from llmhost.node.layout import Layout
from llmhost.node.wish import NodeWish, OllamaWish
from llmhost.supervisor.spec import ChildSpec, Probe

PROXY = "proxy"
OLLAMA = "ollama"
SERVICES = (OLLAMA, PROXY)
STATUS_PATH = "/internal/status"
# How long answers under way may go on when a new release or another configuration takes over.
DRAIN_S = 60.0
# Ollama's own wait for a model that is being unloaded, with room for a slow disk.
OLLAMA_GRACE_S = 6.0
DEFAULT_OLLAMA_PORT = 11434


@dataclass(frozen=True, slots=True)
class Place:
    """Where and on what the services run: `python` and the folder `lib` of the release, ports, run numbers (keep.py), the machine."""

    layout: Layout
    python: str
    lib: str
    models: str
    ports: dict[str, int]
    runs: dict[str, int]
    has_gpu: bool = False
    memory_mb: int | None = None
    vram_mb: int | None = None


def specs_of(wish: NodeWish, place: Place) -> list[ChildSpec]:
    """Every child in starting order."""
    specs = [ollama_spec(wish.ollama, place)] if wish.ollama.mode == "serve" else []
    return [*specs, *([proxy_spec(wish, place)] if wish.server else [])]


def ollama_address(wish: OllamaWish, ports: dict[str, int]) -> str | None:
    """`host:port` of the Ollama server that the wish means; None without one."""
    if wish.mode == "serve":
        return f"127.0.0.1:{ports[OLLAMA]}" if OLLAMA in ports else None
    if wish.mode == "use" and wish.url:
        parts = urlsplit(wish.url if "//" in wish.url else f"//{wish.url}")
        return f"{parts.hostname or '127.0.0.1'}:{parts.port or DEFAULT_OLLAMA_PORT}"
    return None


def ollama_spec(wish: OllamaWish, place: Place) -> ChildSpec:
    """`ollama serve` under the lifeline, because it would outlive a supervisor that was killed."""
    address = f"127.0.0.1:{place.ports[OLLAMA]}"
    theirs = {"OLLAMA_MODELS": place.models, **_home(place), **wish.env}
    settings = serve_environment(
        address,
        wish.context,
        has_gpu=place.has_gpu,
        vram_mb=place.vram_mb,
        memory_mb=place.memory_mb,
        wished=theirs,
    )
    lifeline = (place.python, "-P", "-m", "llmhost.supervisor.lifeline", "--")
    return ChildSpec(
        name=OLLAMA,
        argv=(*lifeline, str(wish.bin), "serve"),
        env={**settings, **_environment(OLLAMA, place)},
        probe=Probe("/api/version", address),
        grace_s=OLLAMA_GRACE_S,
    )


def _home(place: Place) -> dict[str, str]:
    """Ollama keeps a key in ~/.ollama, and CUDA what it compiled in ~/.nv: with the node, unless the user's own models are used."""
    layout = place.layout
    return {"HOME": str(layout.home_dir)} if Path(place.models).is_relative_to(layout.folder) else {}


def proxy_spec(wish: NodeWish, place: Place) -> ChildSpec:
    """The node proxy, on its Unix socket and, where that was wished, on a loopback port too."""
    path = str(place.layout.proxy_socket)
    told: dict[str, Any] = json.loads(json.dumps(wish.server))
    told |= {"socket": path, "lifeline": True, "fd": None, "port": None}
    told["also_port"] = place.ports[PROXY] if wish.tcp else None
    address = ollama_address(wish.ollama, place.ports)
    if told["backend"]["kind"] == "ollama" and address:
        told["backend"] |= {"url": f"http://{address}"}
    return ChildSpec(
        name=PROXY,
        argv=(place.python, "-P", "-m", "llmhost.proxy"),
        config=told,
        env=_environment(PROXY, place),
        probe=Probe(STATUS_PATH, f"unix:{path}", told["token"]),
        sockets=(path,),
        grace_s=DRAIN_S,
    )


def wanted_services(wish: NodeWish) -> Iterable[str]:
    """The names of `specs_of`, without a Place."""
    if wish.ollama.mode == "serve":
        yield OLLAMA
    if wish.server:
        yield PROXY


def _environment(service: str, place: Place) -> dict[str, str]:
    run = place.runs.get(service, 0)
    return {"PYTHONPATH": place.lib, **({"LLMHOST_RUN": str(run)} if run else {})}
