"""The first thing every request meets: is it addressed to us, does it come from a browser page, does it carry the token.

A plain ASGI layer that reads headers and never touches a body. A page on the web may POST to loopback, so a foreign `Host` and any
`Origin` are refused before the token is looked at.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from llmhost.messages.errors import ApiError
from llmhost.messages.headers import REFUSED_HEADER
from llmhost.proxy.replies import send_error

REFUSED = [(REFUSED_HEADER.encode(), b"true")]
OPEN_PATHS = frozenset({"/", "/api/hello", "/health", "/ready"})
LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
ANY_HOST = "*"


class Guard:
    """Wraps the app. `allowed_hosts` are further names to answer to; `*` switches the check off (a server bound beyond loopback)."""

    def __init__(self, app: ASGIApp, token: str, allowed_hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._token = token.encode()
        self._hosts = LOOPBACK_NAMES | set(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers: dict[bytes, bytes] = dict(scope["headers"])
            scope["llmhost.headers"] = headers
            refusal = self._refusal(scope["path"], headers)
            if refusal is not None:
                await send_error(send, refusal, REFUSED)
                return
        await self._app(scope, receive, send)

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> ApiError | None:
        if not self._addressed_to_us(headers.get(b"host", b"")):
            return ApiError(403, "this server answers only to its own address (foreign Host header)")
        if b"origin" in headers:
            return ApiError(403, "requests from web pages are refused (Origin header)")
        if path not in OPEN_PATHS and not self._knows_token(headers):
            hint = "missing or wrong token: send `Authorization: Bearer TOKEN` or `x-api-key: TOKEN` (`llmhost env` prints it)"
            # without x-should-retry Claude Code retries a 401 for over a minute
            return ApiError(401, hint, should_retry=False)
        return None

    def _addressed_to_us(self, host: bytes) -> bool:
        if ANY_HOST in self._hosts:
            return True
        name, colon, port = host.decode("latin-1").rpartition(":")
        return (name if colon and port.isdigit() else host.decode("latin-1")) in self._hosts

    def _knows_token(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        offered = bearer.strip() if scheme.lower() == b"bearer" else b""
        by_bearer = hmac.compare_digest(offered, self._token)
        by_key = hmac.compare_digest(headers.get(b"x-api-key", b""), self._token)
        return by_bearer or by_key
