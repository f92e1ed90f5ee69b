"""How a try at a node fails, and what is made of the node's own words."""

from __future__ import annotations

from typing import Literal

import orjson

from llmhost.backends.fleet.watch import TOKEN_REFUSED
from llmhost.backends.http import Response, error_text
from llmhost.messages.answer import events
from llmhost.messages.errors import STATUS_BY_TYPE, ApiError, unavailable
from llmhost.messages.headers import REFUSED_HEADER

FINDS_BROKEN = frozenset({"dropped", "silent"})
BROKEN_STATUSES = frozenset({500, 502, 504})  # of 503 and 529 a healthy node says that it is starting or full

# As `watch.How` tells them. silent: found by the request itself; lost: found by the watch, which lets nobody ask again until it is back.
Kind = Literal["refused", "dropped", "silent", "lost", "answered", "other_model"]


class NodeFailure(Exception):
    """One try at a node came to nothing. `error` is what the client is told if no other is made."""

    def __init__(self, kind: Kind, error: ApiError) -> None:
        super().__init__(error.message)
        self.kind = kind
        self.error = error

    @property
    def broken(self) -> bool:
        """Whether it speaks against the node, rather than the request or the moment."""
        return self.kind in FINDS_BROKEN or (self.kind == "answered" and self.error.status in BROKEN_STATUSES)


def broken_off(node: str, why: str, *, silent: bool = False) -> NodeFailure:
    """The connection ended, or went silent, before the answer was whole."""
    message = f"Node {node} broke off: {why}. More: llmhost logs {node} --source proxy"
    return NodeFailure("silent" if silent else "dropped", ApiError(502, message))


def unreachable(node: str, why: str) -> ApiError:
    """Nothing came from the node."""
    return unavailable(f"Node {node} does not answer: {why}. More: llmhost status")


def api_error(response: Response, content: bytes) -> ApiError:
    """The node's own error, unmodified, but for a refused token: that is ours, not the client's."""
    if REFUSED_HEADER in response.headers:
        return unavailable(TOKEN_REFUSED, None)
    try:
        kind = orjson.loads(content)["error"]["type"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        kind = None
    retry_after = response.headers.get("retry-after", "")
    should = response.headers.get("x-should-retry")
    return ApiError(
        response.status,
        error_text(content) or f"the node answered {response.status}",
        type=kind,
        retry_after=float(retry_after) if retry_after.isdigit() else None,
        should_retry=None if should is None else should == "true",
    )


def told_failure(frames: bytes) -> ApiError:
    """The failure that a node tells a gateway in its stream."""
    event = next(event for event in events(frames) if event.get("type") == "error")
    error = event.get("error") or {}
    kind = str(error.get("type") or "api_error")
    status = event.get("status") or STATUS_BY_TYPE.get(kind, 502)
    message = str(error.get("message") or "the node failed")
    return ApiError(int(status), message, type=kind, retry_after=event.get("retry_after"))
