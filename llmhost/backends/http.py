"""The HTTP client of the server tower: one upstream, by URL or by Unix socket.

aiohttp rather than the card's httpx: a request of 80 KB costs httpx 4.1 times the processor time, 670 µs against 163
(`python -m tests.bench.bench_http_client`). The operator's side, where no request is in a hurry, stays with httpx.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from llmhost.backends.connections import Connections, Pool

FRESH_TRIES = 3
LAST_CHANCE_S = 0.5


class UpstreamError(Exception):
    """The upstream could not be reached (`status` None), or answered an error status.

    `refused` tells that no connection came about, so that the request was certainly not begun; `timed_out` that it is silent.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        body: bytes = b"",
        *,
        refused: bool = False,
        timed_out: bool = False,
    ) -> None:
        super().__init__(message)
        self.refused = refused
        self.timed_out = timed_out
        self.message = message
        self.status = status
        self.body = body


class _Stale(Exception):
    """The connection was of no use and the request most likely never read: it may be sent again, on a fresh one."""


class Response:
    """An answer whose body is still on its way."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self) -> bytes:
        """The whole body. Raises UpstreamError when it is cut short."""
        try:
            return await self._response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise UpstreamError(f"the answer was cut short ({_why(error)})") from error

    async def chunks(self, silence: float | None = None) -> AsyncIterator[bytes]:
        """Pieces as they arrive. Raises UpstreamError when the connection ends before the body does, or says nothing for `silence` s."""
        watch = _Silence(self._response, silence) if silence else None
        try:
            async for chunk in self._response.content.iter_any():
                if watch:
                    watch.heard()
                yield chunk
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise UpstreamError(f"the answer was cut short ({_why(error)})") from error
        finally:
            if watch:
                watch.stop()


class _Silence:
    """Closes an answer that has been silent too long. One timer an answer instead of one a piece: pieces come by the hundred a second."""

    def __init__(self, response: aiohttp.ClientResponse, limit: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._response = response
        self._limit = limit
        self._last = self._loop.time()
        self._warned = False
        self._timer = self._loop.call_later(limit, self._check)

    def heard(self) -> None:
        self._last = self._loop.time()
        self._warned = False

    def stop(self) -> None:
        self._timer.cancel()

    def _check(self) -> None:
        left = self._last + self._limit - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._check)
            return
        if not self._warned:  # it may be us who were frozen: what came meanwhile is to be read first
            self._warned = True
            self._timer = self._loop.call_later(LAST_CHANCE_S, self._check)
            return
        self._response.content.set_exception(UpstreamError(f"nothing came for {self._limit:g} s", timed_out=True))
        self._response.close()


class Upstream:
    """Requests to one base: `http://host:port` or `unix:/path/to/socket`. `token` is sent as a bearer."""

    def __init__(self, base: str, token: str | None = None) -> None:
        self.base = base
        self._socket = base.removeprefix("unix:") if base.startswith("unix:") else None
        self._prefix = "http://localhost" if self._socket else base.rstrip("/")
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._connections = Connections(self._socket)

    async def json(self, method: str, path: str, body: Any = None, timeout: float = 5.0) -> Any:
        """One small exchange; the parsed answer. Raises UpstreamError."""
        data = None if body is None else orjson.dumps(body)
        try:
            async with asyncio.timeout(timeout):
                async with self.stream(method, path, data) as response:
                    content = await response.read()
        except TimeoutError as error:
            raise UpstreamError(f"no answer from {self.base} within {timeout:g} s", timed_out=True) from error
        if response.status >= 400:
            raise UpstreamError(error_text(content) or f"status {response.status}", response.status, content)
        try:
            return orjson.loads(content) if content else None
        except orjson.JSONDecodeError as error:
            raise UpstreamError(f"{self.base}{path} did not answer JSON", response.status, content) from error

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        within: float | None = None,
    ) -> AsyncIterator[Response]:
        """An answer, once its headers are there; leaving the block early closes the connection, which cancels the work upstream.

        Raises UpstreamError when the upstream cannot be reached, hangs up before its headers, or has not sent them `within` seconds
        (None: no limit, a prefill may take long).
        """
        sent = {"content-type": "application/json", **self._headers, **(headers or {})}
        pool, response = await self._begin(method, self._prefix + path, body, sent, within)
        complete = False
        try:
            yield Response(response)
            complete = response.content.at_eof()
        finally:
            if complete:
                response.release()
                pool.answered = True
            else:
                response.close()
            await self._connections.release(pool)

    async def aclose(self) -> None:
        """Close pooled connections."""
        await self._connections.aclose()

    async def _begin(
        self, method: str, url: str, body: bytes | None, headers: dict[str, str], within: float | None
    ) -> tuple[Pool, aiohttp.ClientResponse]:
        """The answer's headers. What a dead pooled connection or a replaced link swallowed is sent again."""
        for fresh in range(FRESH_TRIES):
            pool = await self._connections.acquire()
            try:
                return pool, await self._send(pool, method, url, body, headers, within)
            except _Stale as stale:
                await self._connections.renew(pool)
                await self._connections.release(pool)
                if fresh == FRESH_TRIES - 1:
                    raise UpstreamError(f"cannot reach {self.base} ({stale})") from stale
            except BaseException:
                await self._connections.release(pool)
                raise
        raise AssertionError("unreachable")

    async def _send(
        self, pool: Pool, method: str, url: str, body: bytes | None, headers: dict[str, str], within: float | None
    ) -> aiohttp.ClientResponse:
        try:
            async with asyncio.timeout(within) as limit:
                self._connections.watch(limit, pool)
                try:
                    return await pool.session.request(method, url, data=_payload(body), headers=headers)
                finally:
                    self._connections.unwatch(limit)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            refused = isinstance(error, aiohttp.ClientConnectorError)
            late = isinstance(error, TimeoutError)
            # aiohttp does not tell whether the connection was used before: one that breaks in a pool that has answered counts as such
            if self._connections.is_stale(pool) or (pool.answered and not refused and not late):
                raise _Stale(_why(error)) from error
            raise UpstreamError(f"cannot reach {self.base} ({_why(error)})", refused=refused, timed_out=late) from error


def _payload(body: bytes | None) -> bytes | io.BytesIO | None:
    # aiohttp warns about, and would copy in one piece, a bytes body of more than 1 MiB
    return io.BytesIO(body) if body is not None and len(body) > 1 << 20 else body


def error_text(content: bytes) -> str:
    """The message inside an error body: Ollama's `{"error": "…"}`, the Messages envelope, or the first line of anything else."""
    try:
        data = orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.decode("utf-8", "replace").strip().split("\n", 1)[0][:300]
    error = data.get("error") if isinstance(data, dict) else None
    if isinstance(error, dict):
        error = error.get("message")
    return str(error) if error else ""


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
