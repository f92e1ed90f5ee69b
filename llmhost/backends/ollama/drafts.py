"""From a request to what is sent to Ollama for it: made when its size is estimated, and kept until it is sent."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llmhost.backends.ollama.codec import Codec, Encoded, LoadedModel
from llmhost.backends.ollama.prefixes import FIRST_GUESS, PrefixBook
from llmhost.messages.documents import PdfShelf
from llmhost.messages.prompt import Prompt
from llmhost.messages.prompt_build import build_prompt
from llmhost.messages.prompt_tools import canonical_json

# Kept between the estimate and the sending of the same request.
BUILT_KEPT = 8
BUILT_MAX_BYTES = 2_000_000


def first_guess(body: dict[str, Any]) -> int:
    """Tokens of a prompt for a model of which nothing is known yet."""
    parts = (body.get("system"), body.get("tools"), body["messages"])
    return round(sum(len(canonical_json(part)) for part in parts if part) * FIRST_GUESS)


@dataclass(frozen=True, slots=True)
class Built:
    """A request ready to be sent, for one loaded model."""

    body: dict[str, Any]
    model: LoadedModel
    prompt: Prompt
    encoded: Encoded
    stream: bool


@dataclass(slots=True)
class Drafts:
    """Those of one model."""

    codec: Codec
    book: PrefixBook
    pdfs: PdfShelf
    _built: OrderedDict[int, Built] = field(default_factory=OrderedDict)

    def estimate(self, body: dict[str, Any], model: LoadedModel) -> int:
        """Tokens of its prompt. What was built for it is kept for `prepared`."""
        built = self._build(body, model)
        if len(built.encoded.body) <= BUILT_MAX_BYTES:
            self._built[id(body)] = built
        while len(self._built) > BUILT_KEPT:
            self._built.popitem(last=False)
        return self.book.estimate(built.encoded)

    async def prepared(self, body: dict[str, Any], model: LoadedModel) -> Built:
        """The request, with its documents read."""
        built = self._built.pop(id(body), None)
        if built is None or built.body is not body or built.model is not model:
            built = self._build(body, model)
        read: dict[str, str] = {}

        def text_of(data: str) -> str | None:
            # what this request has read stays with it: the shelf may have to make room meanwhile
            if data not in read and (known := self.pdfs.get(data)) is not None:
                read[data] = known
            return read.get(data)

        while built.prompt.unread:
            for data in built.prompt.unread:
                read[data] = await asyncio.to_thread(self.pdfs.read, data)
            built = self._build(body, model, text_of)
        return built

    def _build(
        self, body: dict[str, Any], model: LoadedModel, read_pdf: Callable[[str], str | None] | None = None
    ) -> Built:
        prompt = build_prompt(body, vision=model.vision, thinking=model.thinking, read_pdf=read_pdf or self.pdfs.get)
        # Whoever takes the answer whole needs no line per token; only an answer that we may have to cut short must be watched growing.
        stream = body.get("stream") is True or bool(prompt.stop) or not prompt.tool_choice.parallel
        encoded = self.book.known(self.codec.encode(prompt, model, stream=stream))
        return Built(body, model, prompt, encoded, stream)
