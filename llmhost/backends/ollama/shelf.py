"""The models that an Ollama server has on its disk and that can be asked for by name."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from llmhost.backends.base import ModelInfo
from llmhost.backends.http import Upstream, UpstreamError
from llmhost.backends.ollama import catalog
from llmhost.backends.ollama.codec import LoadedModel
from llmhost.backends.ollama.listing import loaded_model
from llmhost.backends.ollama.served import model_info
from llmhost.core.server_config import BackendConfig

log = logging.getLogger(__name__)

LOOK_S = 5.0
# Somebody who asks for names that do not exist must not have Ollama list its models for each.
FRESH_S = 1.0
UNKNOWN_WINDOW = 4_096


@dataclass(slots=True)
class Shelf:
    """What is there, as of the last look. `codec` is the name of the way in which models are asked."""

    upstream: Upstream
    config: BackendConfig
    codec: str
    known: bool = False
    _models: dict[str, LoadedModel] = field(default_factory=dict)
    _shown: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    _looked_at: float = float("-inf")
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def watch(self, every_s: float) -> None:
        """Look for ever."""
        while True:
            await self.refresh(every_s)
            await asyncio.sleep(every_s)

    async def refresh(self, fresh_s: float = FRESH_S) -> None:
        """Look again, unless that was done `fresh_s` ago or later. An Ollama that does not answer, or not as one does, changes nothing."""
        async with self._turn:
            now = asyncio.get_running_loop().time()
            if now - self._looked_at < fresh_s:
                return
            self._looked_at = now
            with suppress(
                UpstreamError, AttributeError, KeyError, TypeError, ValueError
            ):  # the main model's watch says so
                await self._look()

    def models(self) -> list[ModelInfo]:
        """As they would be loaded; the largest window that is asked for is not yet what memory gives."""
        return [model_info(model, self.codec) for model in self._models.values()]

    def find(self, name: str) -> ModelInfo | None:
        """The model of that name, its tag given or not."""
        found = self._models.get(catalog.full_name(name).casefold())
        return model_info(found, self.codec) if found else None

    async def _look(self) -> None:
        answer = await self.upstream.json("GET", "/api/tags", timeout=LOOK_S)
        tags = [tag for tag in answer.get("models") or () if isinstance(tag, dict) and not catalog.is_remote(tag)]
        version = await self._version()
        shown, models = {}, {}
        for tag in tags:
            key = (str(tag.get("name")), str(tag.get("digest")))
            show = self._shown.get(key) or await self._show(key[0])
            if show is None:
                continue
            shown[key] = show
            if catalog.can_chat(show):
                models[catalog.full_name(key[0]).casefold()] = self._model(tag, show, version)
        self._shown, self._models, self.known = shown, models, True

    async def _show(self, name: str) -> dict[str, Any] | None:
        try:
            show = await self.upstream.json("POST", "/api/show", {"model": name}, timeout=LOOK_S)
        except UpstreamError as error:
            if error.status is None:
                raise
            log.info("ollama does not show %s: %s", name, error.message)
            return None
        return show if isinstance(show, dict) else None

    async def _version(self) -> str:
        with suppress(UpstreamError, AttributeError):
            return str((await self.upstream.json("GET", "/api/version", timeout=LOOK_S)).get("version") or "")
        return ""

    def _model(self, tag: dict[str, Any], show: dict[str, Any], version: str) -> LoadedModel:
        longest, wished = catalog.longest_context(show), self.config.context
        num_ctx = min(wished, longest or wished) if wished else None
        window = num_ctx or longest or UNKNOWN_WINDOW
        return loaded_model(str(tag.get("name")), tag, show, window, num_ctx, self.config.keep_alive, version)
