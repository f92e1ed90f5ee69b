"""Whole answers: JSON and errors, with the headers that are on every one of them."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Send

from llmhost.messages.errors import ApiError
from llmhost.messages.ids import request_id

Headers = list[tuple[bytes, bytes]]
JSON_TYPE = (b"content-type", b"application/json")
ALWAYS: Headers = [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]


async def send_json(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """One complete JSON answer."""
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [JSON_TYPE, length, *ALWAYS, *headers]})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: Send, error: ApiError, headers: Headers | None = None, id: str | None = None) -> None:
    """The error envelope with its status, `request-id` and retry headers."""
    id = id or request_id()
    await send_json(
        send, error.status, error.body(id), [(b"request-id", id.encode()), *error.headers(), *(headers or [])]
    )


def reply(
    body: bytes, status: int, type: str, headers: dict[str, str] | None = None, id: str | None = None
) -> Response:
    """The same for FastAPI routes."""
    always = {name.decode(): value.decode() for name, value in ALWAYS}
    return Response(body, status, {"request-id": id or request_id(), **always, **(headers or {})}, type)


def json_reply(data: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return reply(orjson.dumps(data), status, "application/json", headers)


def error_reply(error: ApiError) -> Response:
    id = request_id()
    headers = {name.decode(): value.decode() for name, value in error.headers()}
    return reply(error.body(id), error.status, "application/json", headers, id)
