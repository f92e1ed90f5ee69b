"""Small requests, and reading their answers."""

from __future__ import annotations

import itertools
import json
from typing import Any

import httpx

from tests.support.sse import check_order, parse

_fresh = itertools.count()


def ask(text: str, **fields: Any) -> dict[str, Any]:
    """A request body with one user text."""
    return {"model": "claude-test", "max_tokens": 500, "messages": [{"role": "user", "content": text}], **fields}


def fresh(text: str = "question", **fields: Any) -> dict[str, Any]:
    """The same, never asked before."""
    return ask(f"{text}\n(number {next(_fresh)})", **fields)


def send(client: httpx.Client, body: dict[str, Any], **headers: str) -> httpx.Response:
    return client.post(
        "/v1/messages", json=body, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def text_of(message: dict[str, Any]) -> str:
    return "".join(block["text"] for block in message["content"] if block["type"] == "text")


def stream(
    client: httpx.Client, body: dict[str, Any], **headers: str
) -> tuple[httpx.Response, list[tuple[str, dict[str, Any]]]]:
    """A streamed answer and its events, their order checked."""
    response = send(client, {**body, "stream": True}, **headers)
    events = parse(response.content)
    check_order(events)
    return response, events


def streamed_text(events: list[tuple[str, dict[str, Any]]]) -> str:
    return "".join(data["delta"].get("text", "") for name, data in events if name == "content_block_delta")


def error_of(response: httpx.Response) -> tuple[int, str, str]:
    """Status, type and message of an error envelope, its shape checked."""
    data = json.loads(response.content)
    assert data["type"] == "error"
    assert data["request_id"] == response.headers["request-id"]
    assert data["request_id"].startswith("req_")
    return response.status_code, data["error"]["type"], data["error"]["message"]
