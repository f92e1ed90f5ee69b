"""What a server knows of itself: `/health`, `/ready`, and the figures behind `llmhost status`."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

from llmhost import __version__
from llmhost.backends.base import Backend, HasNodes
from llmhost.cache.base import StoreStatus
from llmhost.core.gpu import GpuWatch
from llmhost.core.server_config import ServerConfig
from llmhost.proxy.pipeline import Pipeline

# The supervisor reads at most 128 KiB of a status (llmhost.supervisor.prober), and a model takes a quarter of one.
MODELS_TOLD = 200
CACHE_OFF = StoreStatus("memory", "off", None, None)


class ServerStatus:
    """Answers from memory; only the cache store is asked, within its own time-out."""

    def __init__(self, config: ServerConfig, pipeline: Pipeline, also_port: int | None = None) -> None:
        self._config = config
        self._pipeline = pipeline
        self._also_port = also_port
        self._since = time.monotonic()
        self._gpu = GpuWatch() if config.gpu else None

    def start(self) -> None:
        """Begin looking at the graphics cards, if told to."""
        if self._gpu is not None:
            self._gpu.start()

    def stop(self) -> None:
        if self._gpu is not None:
            self._gpu.stop()

    @property
    def backend(self) -> Backend:
        return self._pipeline.backend

    def ready(self) -> bool:
        """True when a request would be answered by a loaded model."""
        return self.backend.health().state == "ok" and self.backend.model() is not None

    async def health(self) -> tuple[dict[str, Any], int]:
        """The body and status of `GET /health`."""
        backend = self.backend.health()
        cache = await self._store()
        components: dict[str, str] = {
            "backend": backend.state,
            "cache": cache.state,
            "embedder": "off",  # the semantic cache is not in this release
            **backend.components,
        }
        if cache.kind == "redis":
            components["redis"] = cache.state
        status = "healthy" if backend.state == "ok" else "unhealthy"
        if status == "healthy" and cache.state == "degraded":
            status = "degraded"
        return {"status": status, "components": components}, 503 if status == "unhealthy" else 200

    async def full(self) -> dict[str, Any]:
        """The body of `GET /internal/status`."""
        health = self.backend.health()
        model = self.backend.model()
        return {
            "name": self._config.name,
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._since, 1),
            "ready": self.ready(),
            "backend": {"kind": self.backend.kind, "node_id": self.backend.node_id, **asdict(health)},
            "model": asdict(model) if model else None,
            "models": [asdict(each) for each in self.backend.models()[:MODELS_TOLD]],
            "cache": await self._cache(),
            "prefix": self._prefix(),
            "requests": self._pipeline.metrics.requests(),
            **self._placement(),
        }

    def _placement(self) -> dict[str, Any]:
        """What only a gateway (`nodes`), only a node (`gpu`, None while unknown) or only a server with two places (`also_port`) has."""
        found: dict[str, Any] = {}
        if isinstance(self.backend, HasNodes):
            found["nodes"] = [asdict(reading) for reading in self.backend.nodes()]
        if self._gpu is not None:
            found["gpu"] = self._gpu.figures()
        if self._also_port is not None:
            found["also_port"] = self._also_port
        return found

    async def _store(self) -> StoreStatus:
        return await self._pipeline.cache.status() if self._pipeline.cache else CACHE_OFF

    async def _cache(self) -> dict[str, Any]:
        store = await self._store()
        counts = await self._pipeline.cache.counts() if self._pipeline.cache else {}
        exact = {name: counts.get(f"exact_{name}", 0) for name in ("hits", "misses", "bypass")}
        asked = exact["hits"] + exact["misses"]
        return {
            "store": store.kind,
            "state": store.state,
            "detail": store.detail,
            "hit_ratio": round(exact["hits"] / asked, 4) if asked else None,
            "entries": store.entries,
            "memory_bytes": store.memory_bytes,
            "exact": exact,
            "semantic": {"hits": 0, "misses": 0, "bypass": 0},
            "saved_tokens": counts.get("saved_tokens", 0),
            "saved_seconds": round(counts.get("saved_ms", 0) / 1000, 1),
        }

    def _prefix(self) -> dict[str, Any]:
        reuse = self.backend.reuse
        ratio = round(reuse.reused_tokens / reuse.prompt_tokens, 4) if reuse.prompt_tokens else None
        return {"prompt_tokens": reuse.prompt_tokens, "reused_tokens": reuse.reused_tokens, "reuse_ratio": ratio}
