"""What is asked of an Ollama server about its models, and to have one loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmhost.backends.http import Upstream, UpstreamError
from llmhost.backends.ollama import catalog
from llmhost.backends.ollama.listing import is_named, tag_of

LOAD_TIMEOUT_S = 900.0  # 19 GB from a slow disk
UNLOAD_S = 30.0


class ModelMissing(Exception):
    """Ollama has not got the model that is to be served."""


@dataclass(frozen=True, slots=True)
class Server:
    """Methods raise UpstreamError. `look_s` seconds at most for an answer about what is in memory."""

    upstream: Upstream
    look_s: float

    async def running(self) -> list[dict[str, Any]] | None:
        """What `/api/ps` lists; None where the server has no such route."""
        answer = await self._optional("/api/ps")
        models = answer.get("models") if isinstance(answer, dict) else None
        return None if answer is None else [model for model in models or () if isinstance(model, dict)]

    async def version(self) -> str:
        """Empty where it does not say."""
        return str((await self._optional("/api/version") or {}).get("version") or "")

    async def choose(self, wanted: str | None, before: str | None) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Name, entry of `/api/tags` and `/api/show` of the model to serve: the wanted one; else the one of `before`, where it is still

        there; else the best. Raises ModelMissing.
        """
        answer = await self.upstream.json("GET", "/api/tags")
        models = [model for model in answer.get("models") or () if isinstance(model, dict)]
        named = wanted or (before if before and any(is_named(model, before) for model in models) else None)
        usable = []
        for name in catalog.candidates(models, named):
            show = await self.upstream.json("POST", "/api/show", {"model": name})
            able = catalog.capabilities(show)
            if "tools" in able or named:
                return name, tag_of(models, name), show
            if "completion" in able:
                usable.append((name, tag_of(models, name), show))
        if usable:
            return usable[0]
        raise ModelMissing(f"Ollama has no model {wanted}" if wanted else "Ollama has no model that can chat")

    async def load(self, name: str, num_ctx: int | None, keep_alive: str | int) -> None:
        """An empty chat loads a model; with the very options of later requests, or the first of those would load it again."""
        options = {} if num_ctx is None else {"num_ctx": num_ctx}
        body = {"model": name, "messages": [], "stream": False, "keep_alive": keep_alive, "options": options}
        await self.upstream.json("POST", "/api/chat", body, timeout=LOAD_TIMEOUT_S)

    async def unload(self, name: str) -> None:
        """Ask for it; an Ollama that refuses has nothing to unload."""
        try:
            await self.upstream.json("POST", "/api/generate", {"model": name, "keep_alive": 0}, timeout=UNLOAD_S)
        except UpstreamError as error:
            if error.status is None:
                raise

    async def _optional(self, path: str) -> Any:
        """An answer that servers which merely speak Ollama's chat (a router, a test double) may lack: None then."""
        try:
            return await self.upstream.json("GET", path, timeout=self.look_s)
        except UpstreamError as error:
            if error.status in (404, 405, 501):
                return None
            raise
