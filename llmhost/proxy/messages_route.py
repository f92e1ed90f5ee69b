"""`POST /v1/messages`: the hot path, plain ASGI, nothing between it and the socket but the guard.

First bytes: nothing is sent until the backend accepted the request or the first-bytes time went by; until then every failure has its
own status. After that a failure before the first completed block is told by hanging up without the final chunk (Claude Code streams
again, the SDK sees a protocol error), a later one by an `error` event.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from llmhost.core.guard_files import Touch
from llmhost.messages.answer import Answer, IncompleteAnswer, answer_of
from llmhost.messages.errors import ApiError
from llmhost.messages.frames import restarted
from llmhost.messages.headers import GATEWAY_HEADER, SERVED_HEADER
from llmhost.messages.ids import message_id, request_id
from llmhost.messages.request import MAX_BODY_BYTES, body_too_large, parse, unwritable
from llmhost.messages.writer import sse
from llmhost.proxy.flight import CUT_OFF, Listener
from llmhost.proxy.pipeline import Pipeline, Served
from llmhost.proxy.replies import ALWAYS, Headers, send_error, send_json

log = logging.getLogger(__name__)

SSE_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")


class ClientGone(Exception):
    """The client left before its answer was complete."""


class MessagesRoute:
    """The endpoint."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        metrics, activity = self._pipeline.metrics, self._pipeline.activity
        exchange = _Exchange(scope, receive, send, activity)
        activity.touch()
        metrics.begin()
        try:
            await self._answer(exchange)
        except ApiError as error:
            await exchange.fail(error)
        except ClientGone:
            exchange.outcome = "gone"
        except Exception as error:  # noqa: BLE001 - a bug is one failed request in the client's own error format
            await exchange.fail(unexpected(error))
        finally:
            activity.touch()
            seconds = time.perf_counter() - exchange.began
            metrics.end(exchange.model, exchange.cache, exchange.outcome, seconds, exchange.first_token)

    async def _answer(self, exchange: _Exchange) -> None:
        raw = await read_body(exchange.receive, exchange.headers)
        body = parse(raw)
        served = await self._pipeline.serve(body, raw, exchange.headers)
        exchange.learn(served, self._pipeline)
        streaming = body.get("stream") is True
        if served.answer is not None:
            await _send_answer(exchange, served.answer, streaming)
        elif served.listener is not None:
            with served.listener as listener:
                await _relay(exchange, listener, streaming)
                self._count(exchange, listener)

    def _count(self, exchange: _Exchange, listener: Listener) -> None:
        if exchange.cache != "coalesced" and listener.flight.error is None and listener.flight.ended:
            self._pipeline.count_tokens_of(listener.flight, exchange.model)


class _Exchange:
    """One request and what is known of its answer so far."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, activity: Touch) -> None:
        self.headers: dict[bytes, bytes] = scope["llmhost.headers"]
        self.receive = receive
        self.send = send
        self.activity = activity
        self.id = request_id()
        self.began = time.perf_counter()
        self.model = "unknown"
        self.requested = "unknown"
        self.cache = "bypass"
        self.outcome = "ok"
        self.first_token: float | None = None
        self.for_gateway = GATEWAY_HEADER.encode() in self.headers
        self.started = False
        self.origin: Headers = []
        self.listener: Listener | None = None
        self._only_node: str | None = None

    async def fail(self, error: ApiError) -> None:
        """Tell the client, if nothing was sent yet."""
        self.outcome = "error"
        if not self.started:
            await send_error(self.send, error, self._origin(), self.id)

    def learn(self, served: Served, pipeline: Pipeline) -> None:
        model = served.target.info
        self.requested = served.target.name
        self.model = model.id if model else "unknown"  # never the name the client sent: metrics labels stay few
        self.cache = served.cache
        self.origin = [(b"x-llmhost-cache", served.cache.encode())]
        self.listener = served.listener
        self._only_node = pipeline.backend.node_id

    def response_headers(self) -> Headers:
        return [(b"request-id", self.id.encode()), *self._origin()]

    def _origin(self) -> Headers:
        """Which cache, which node; the latter is known only when it has the request."""
        if self.listener is None:
            return self.origin
        node = self.listener.flight.call.node or self._only_node
        return [*self.origin, (b"x-llmhost-node", node.encode())] if node else self.origin


def unexpected(error: Exception) -> ApiError:
    """What a client is told of an error nobody foresaw; its trace goes to the log."""
    refusal = unwritable(error) if isinstance(error, TypeError) else None
    if refusal is None:
        log.error("request failed unexpectedly", exc_info=error)
    return refusal or ApiError(500, "internal error of llmhost; `llmhost logs` has the details")


async def read_body(receive: Receive, headers: dict[bytes, bytes]) -> bytes:
    """The whole body. Raises ApiError 413 past the limit, before it is read where its length was announced; ClientGone."""
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > MAX_BODY_BYTES:
        raise body_too_large()
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise body_too_large()
        parts.append(part)
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _send_answer(exchange: _Exchange, answer: Answer, streaming: bool) -> None:
    if streaming:
        await _start_stream(exchange)
        await exchange.send({"type": "http.response.body", "body": answer.frames(exchange.requested)})
    else:
        await send_json(
            exchange.send, 200, orjson.dumps(answer.message(exchange.requested)), exchange.response_headers()
        )
    exchange.first_token = time.perf_counter() - exchange.began


async def _relay(exchange: _Exchange, listener: Listener, streaming: bool) -> None:
    watch = asyncio.ensure_future(_until_gone(exchange.receive))
    watch.add_done_callback(lambda _: listener.hang_up())
    try:
        await (_relay_stream if streaming else _relay_whole)(exchange, listener)
    finally:
        watch.cancel()
    if listener.flight.first_frame_at is not None:
        exchange.first_token = max(0.0, listener.flight.first_frame_at - listener.flight.began)


async def _until_gone(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _relay_whole(exchange: _Exchange, listener: Listener) -> None:
    await listener.ended()
    if not listener.flight.ended:
        raise ClientGone
    if listener.flight.error is not None:
        raise listener.flight.error
    try:
        answer = answer_of(b"".join(listener.flight.frames))
    except IncompleteAnswer as error:
        raise ApiError(502, CUT_OFF) from error
    await send_json(exchange.send, 200, orjson.dumps(answer.message(exchange.requested)), exchange.response_headers())


async def _relay_stream(exchange: _Exchange, listener: Listener) -> None:
    flight = listener.flight
    await listener.opened()
    if flight.error is not None and not flight.frames:
        raise flight.error
    frames = await listener.more()
    if listener.gone:
        raise ClientGone
    if flight.error is not None and not flight.block_was_completed():
        raise flight.error  # nothing was sent yet, so the failure still gets its own status
    if exchange.cache == "coalesced":
        frames = restarted(frames, message_id(), exchange.requested)
    if exchange.for_gateway and flight.call.served:
        exchange.origin.append((SERVED_HEADER.encode(), flight.call.served.encode()))
    await _start_stream(exchange)
    while frames:
        await exchange.send({"type": "http.response.body", "body": frames, "more_body": True})
        exchange.activity.touch()
        frames = await listener.more()
    if listener.gone:
        raise ClientGone
    await _end_stream(exchange, listener)


async def _start_stream(exchange: _Exchange) -> None:
    headers = [SSE_TYPE, *ALWAYS, *exchange.response_headers()]
    exchange.started = True
    await exchange.send({"type": "http.response.start", "status": 200, "headers": headers})


async def _end_stream(exchange: _Exchange, listener: Listener) -> None:
    error = listener.flight.error
    tail = b""
    if error is not None:
        exchange.outcome = "error"
        if not exchange.for_gateway and not listener.flight.block_was_completed():
            return  # leaving without the final message makes the server close the connection in the middle of the stream
        told = {"type": "error", "error": {"type": error.type, "message": error.message}, "request_id": exchange.id}
        to_gateway = {"status": error.status, "retry_after": error.retry_after}
        tail = sse(told | to_gateway if exchange.for_gateway else told)
    await exchange.send({"type": "http.response.body", "body": tail})
