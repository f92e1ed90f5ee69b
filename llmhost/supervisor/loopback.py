"""A small HTTP client for servers on this machine: over a Unix socket, or a port of the loopback.

`http.client` and not httpx, because it loads in a tenth of the time and everything here sends one request and reads one answer.
"""

from __future__ import annotations

import http.client
import json
import socket
import time
from dataclasses import dataclass
from typing import Any

MAX_ANSWER = 8 * 1024 * 1024
MAX_DEPTH = 50
_UNIX = "unix:"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and the JSON of the body (None when it is not JSON, or nested deeper than `MAX_DEPTH`)."""

    status: int
    data: Any


class _Patient(socket.socket):
    """Waits for bytes `step_s` at a time, and not beyond `until` (monotonic) in all."""

    step_s: float | None = None
    until: float | None = None

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        if self.until is not None:
            left = self.until - time.monotonic()
            if left <= 0:
                raise TimeoutError("its answer does not come to an end")
            self.settimeout(left if self.step_s is None else min(left, self.step_s))
        return super().recv_into(buffer, nbytes, flags)


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: str, timeout_s: float, whole_s: float | None) -> None:
        super().__init__("127.0.0.1" if address.startswith(_UNIX) else address, timeout=timeout_s)
        self._address = address
        self._step_s, self._whole_s = timeout_s, whole_s

    def connect(self) -> None:
        self.sock = connected = _Patient(fileno=self._dial().detach())
        connected.settimeout(self._step_s)
        connected.step_s = self._step_s
        connected.until = None if self._whole_s is None else time.monotonic() + self._whole_s

    def _dial(self) -> socket.socket:
        if not self._address.startswith(_UNIX):
            return socket.create_connection((self.host, self.port), self._step_s)
        dialled = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            dialled.settimeout(self._step_s)
            dialled.connect(self._address.removeprefix(_UNIX))
        except OSError:
            dialled.close()
            raise
        return dialled


def request(
    address: str,
    method: str,
    path: str,
    *,
    token: str | None = None,
    body: Any = None,
    headers: dict[str, str] | None = None,
    timeout_s: float = 2.0,
    whole_s: float | None = None,
    max_bytes: int = MAX_ANSWER,
) -> Answer:
    """Send one request to `unix:/path` or `host:port`. Raises OSError when there is no answer (also for one that is not HTTP, and one

    that is longer than `max_bytes`). `timeout_s` is for each step, so that a server that drips may take for ever; `whole_s` for all.
    """
    connection = _Connection(address, timeout_s, whole_s)
    try:
        connection.request(method, path, body=_payload(body), headers=_headers(token, body, headers))
        response = connection.getresponse()
        raw = response.read(max_bytes + 1)
        if len(raw) > max_bytes:
            raise OSError(f"its answer is longer than {max_bytes} bytes")
        return Answer(response.status, _parse(raw))
    except http.client.RemoteDisconnected as error:
        raise ConnectionResetError("it hung up without an answer") from error
    except http.client.HTTPException as error:
        raise OSError(f"not an HTTP answer: {type(error).__name__}") from error
    finally:
        connection.close()


def _headers(token: str | None, body: Any, more: dict[str, str] | None) -> dict[str, str]:
    headers = {"Connection": "close", **(more or {})}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if body is not None:
        headers["Content-Type"] = "application/json"
    return headers


def _payload(body: Any) -> bytes | None:
    return None if body is None else json.dumps(body).encode()


def _parse(raw: bytes) -> Any:
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return data if _is_flat(data) else None


def _is_flat(data: Any, deepest: int = MAX_DEPTH) -> bool:
    """What is nested too deeply to be written as JSON again is nobody's answer."""
    inner = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return deepest > 0 and all(_is_flat(one, deepest - 1) for one in inner)
