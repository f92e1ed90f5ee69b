"""The rehearsal backend driven without a server."""

from __future__ import annotations

from typing import Any

from llmhost.backends.base import Call
from llmhost.backends.rehearsal import RehearsalBackend
from llmhost.core.server_config import BackendConfig, Timing
from llmhost.messages.writer import EventWriter
from tests.support.sse import check_order, message_of, parse


def make_backend(context: int | None = None, model: str | None = None) -> RehearsalBackend:
    return RehearsalBackend(BackendConfig("rehearsal", context=context, model=model), Timing())


def request(text: str = "hello", **fields: Any) -> dict[str, Any]:
    """A request whose only message is `text`."""
    return {"messages": [{"role": "user", "content": text}], **fields}


def call(body: dict[str, Any]) -> Call:
    return Call(body, b"", EventWriter(body.get("model") or "rehearsal"))


async def frames_of(backend: RehearsalBackend, body: dict[str, Any]) -> bytes:
    return b"".join([frames async for frames in backend.generate(call(body))])


async def answer(body: dict[str, Any], backend: RehearsalBackend | None = None) -> dict[str, Any]:
    """The whole message, its stream checked."""
    events = parse(await frames_of(backend or make_backend(), body))
    check_order(events)
    return message_of(events)
