"""What the marketplace says: answers, the refusals it words, and one call as a handler sees it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

JSON = "application/json"
HTML = "text/html; charset=utf-8"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Answer:
    """A status and a body: `data` as JSON, or `raw` bytes as they are.

    `delay_s` are real seconds before it is sent; `dropped` closes the connection instead; `missing_bytes` of the body are announced and
    never sent.
    """

    status: int = 200
    data: Any = None
    raw: bytes | None = None
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    dropped: bool = False
    missing_bytes: int = 0

    @property
    def body(self) -> bytes:
        return json.dumps(self.data).encode() if self.raw is None else self.raw

    def but(self, **changes: Any) -> Answer:
        return replace(self, **changes)


class Refusal(Exception):
    """Ends a handler with this answer; nothing has been changed before it is raised unless the handler says so."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


@dataclass(frozen=True)
class Call:
    """One request: `params` are the numbers and names in its path, `query` has the last value of each name, `body` is parsed JSON."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    raw: bytes = b""
    body: Any = None
    params: dict[str, str] = field(default_factory=dict)
    address: str = "127.0.0.1"

    @property
    def number(self) -> int:
        """The id in the path."""
        return int(self.params["id"])

    @property
    def fields(self) -> dict[str, Any]:
        """The body as an object; raises Refusal (400) for anything else that is not empty."""
        if self.body is None:
            return {}
        if not isinstance(self.body, dict):
            raise Refusal(error(400, "invalid_args", "Invalid json_body"))
        return self.body


def ok(**fields: Any) -> Answer:
    return Answer(data={"success": True, **fields})


def error(status: int, code: str, msg: str, **more: Any) -> Answer:
    """The usual shape of an error (vast facts §1.5)."""
    return Answer(status, {"success": False, "error": code, "msg": msg, **more})


def bad_query(key: str) -> Answer:
    """The one shape without `success` (vast facts §5)."""
    return Answer(
        400, {"error": "invalid_request", "msg": f"Error in query parameters: {key} is not a valid search key"}
    )


def no_such_instance(number: int) -> Answer:
    return error(404, "no_such_instance", f"Instance {number} not found.")


def html(status: int, title: str) -> Answer:
    """What a gateway in front of the marketplace says in its place."""
    text = f"<html><head><title>{status} {title}</title></head><body><center><h1>{status} {title}</h1></center></body></html>"
    return Answer(status, raw=text.encode(), content_type=HTML)
