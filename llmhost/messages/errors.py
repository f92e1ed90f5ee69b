"""Errors of the Messages API, as the vendor shapes them.

Envelope: `{"type": "error", "error": {"type": T, "message": M}, "request_id": "req_…"}`. Which status makes Claude Code do what is in the
comments below (measured with 2.1.329): a wrong status turns a retry into a dead turn.
"""

from __future__ import annotations

import orjson

TYPE_BY_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    501: "not_supported",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

STATUS_BY_TYPE = {type: status for status, type in reversed(TYPE_BY_STATUS.items())}


class ApiError(Exception):
    """A failed request.

    `retry_after` in seconds becomes the `retry-after` header, which Claude Code and the SDKs obey; `should_retry` becomes
    `x-should-retry` (false stops a client that would otherwise retry for a minute).
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type or TYPE_BY_STATUS.get(status, "api_error")
        self.retry_after = retry_after
        self.should_retry = should_retry

    def body(self, request_id: str) -> bytes:
        """The envelope as JSON."""
        error = {"type": self.type, "message": self.message}
        return orjson.dumps({"type": "error", "error": error, "request_id": request_id})

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that steer a client's retries."""
        found: list[tuple[bytes, bytes]] = []
        if self.retry_after is not None:
            found.append((b"retry-after", str(max(1, round(self.retry_after))).encode()))
        if self.should_retry is not None:
            found.append((b"x-should-retry", b"true" if self.should_retry else b"false"))
        return found


def invalid(message: str) -> ApiError:
    """400: the request itself is wrong."""
    return ApiError(400, message)


def prompt_too_long(tokens: int, window: int) -> ApiError:
    """The wording that makes Claude Code compact and go on; it must be a 400 (with 500 it only retries)."""
    return ApiError(400, f"prompt is too long: {max(tokens, window + 1)} tokens > {window} maximum")


def model_unknown(model: str, served: str | None) -> ApiError:
    """404 that names the command that pulls the model."""
    serving = f" This server serves {served!r}." if served else ""
    ways = f"To get it: llmhost models pull {model}. To have it served instead: llmhost up --model {model}"
    return ApiError(404, f"model {model!r} is not served here.{serving} {ways}")


def overloaded(message: str, retry_after: float | None = None) -> ApiError:
    """529: busy or starting; Claude Code waits `retry_after` seconds and asks again."""
    return ApiError(529, message, retry_after=retry_after)


def unavailable(message: str, retry_after: float | None = 5) -> ApiError:
    """503: what stands behind is gone for now."""
    return ApiError(503, message, retry_after=retry_after)
