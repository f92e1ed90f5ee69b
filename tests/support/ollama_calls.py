"""Putting requests to an Ollama backend as the pipeline does, and reading what comes back strictly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from llmhost.backends.base import Call
from llmhost.backends.ollama.backend import OllamaBackend
from llmhost.messages.errors import ApiError
from llmhost.messages.writer import EventWriter
from tests.support import sse


async def frames(backend: OllamaBackend, body: dict[str, Any], model: str | None = None) -> AsyncIterator[bytes]:
    """The frames of one answer, of the main model or of the one that is named; the first item says "accepted"."""
    writer = EventWriter(str(body.get("model") or "claude"), backend.estimate(body, model))
    async for frame in backend.generate(Call(body, b"", writer, model=model)):
        yield frame


async def events(backend: OllamaBackend, body: dict[str, Any], model: str | None = None) -> list[sse.Event]:
    """One whole answer, checked event by event."""
    found = sse.parse(b"".join([frame async for frame in frames(backend, body, model)]))
    sse.check_order(found)
    return found


async def answer(backend: OllamaBackend, body: dict[str, Any], model: str | None = None) -> dict[str, Any]:
    """One whole answer, as a message."""
    return sse.message_of(await events(backend, body, model))


async def failure(backend: OllamaBackend, body: dict[str, Any], model: str | None = None) -> tuple[ApiError, bytes]:
    """The error a request ends with, and the frames that went out before it. AssertionError when it does not fail."""
    sent = b""
    try:
        async with aclosing(frames(backend, body, model)) as pieces:  # type: ignore[type-var]
            async for frame in pieces:
                sent += frame
    except ApiError as error:
        return error, sent
    raise AssertionError(f"no failure, but {sent!r}")


async def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Lets the backend work until the condition holds. AssertionError when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        await asyncio.sleep(0.01)


def prompt_tokens(message: dict[str, Any]) -> int:
    """All tokens of the prompt, those in the engine's cache included."""
    counts = message["usage"]
    return int(counts["input_tokens"] + counts["cache_read_input_tokens"] + counts["cache_creation_input_tokens"])
