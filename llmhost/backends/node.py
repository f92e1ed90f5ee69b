"""Backend `node`: another llmhost proxy. The API passes through untouched; what is added is patience and a health watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from typing import Any

import orjson

from llmhost.backends.base import BackendHealth, Call, HealthState, ModelInfo, PrefixReuse
from llmhost.backends.http import Response, Upstream, UpstreamError, error_text
from llmhost.core.server_config import BackendConfig, Timing
from llmhost.messages.answer import events
from llmhost.messages.errors import STATUS_BY_TYPE, ApiError, unavailable
from llmhost.messages.frames import FrameSplitter, is_in
from llmhost.messages.headers import ESTIMATE_HEADER, GATEWAY_HEADER, REFUSED_HEADER, SERVED_HEADER

log = logging.getLogger(__name__)

POLL_STARTING_S = 0.2
POLL_READY_S = 2.0
HOLD_S = (
    20.0  # how long a request waits for a node that is coming back before it is told to come again (tunnel facts, D6)
)
RETRY_EVERY_S = 0.1
FORWARDED = ("anthropic-version", "anthropic-beta", "x-claude-code-session-id", "x-claude-code-agent-id")
BYTES_PER_TOKEN = 4
COUNT_WITHIN_S = 10.0
REFUSALS = (401, 403)
TOKEN_REFUSED = "the node does not accept the gateway's token; run `llmhost down`, then `llmhost up`"


class NodeBackend:
    """Requests to one node proxy, whose model and health are watched from the background."""

    kind = "node"
    translates = False

    def __init__(self, config: BackendConfig, timing: Timing) -> None:
        if not config.url:
            raise ValueError("backend node needs the node's url")
        self.node_id = config.node_id
        self._upstream = Upstream(config.url, config.token)
        self._silence = timing.upstream_silence
        # a node sends its headers when the first-bytes time is over at the latest; one that does not is frozen
        self._headers_within = timing.first_byte + timing.upstream_silence
        self._model: ModelInfo | None = None
        self._health = BackendHealth("starting", "the node proxy has not answered yet", retry_after=2)
        self.reuse = PrefixReuse()
        self._ready = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._watch = asyncio.create_task(self._poll())

    async def aclose(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        await self._upstream.aclose()

    def model(self) -> ModelInfo | None:
        return self._model

    def health(self) -> BackendHealth:
        return self._health

    def estimate(self, body: dict[str, Any]) -> int:
        parts = (body.get("system"), body.get("tools"), body["messages"])
        return sum(len(orjson.dumps(part)) for part in parts if part) // BYTES_PER_TOKEN

    async def count_tokens(self, body: dict[str, Any]) -> tuple[int, bool]:
        try:
            async with self._open("/v1/messages/count_tokens", orjson.dumps(body), {}, COUNT_WITHIN_S) as response:
                content = await response.read()
                if response.status != 200:
                    raise _api_error(response, content)
                return int(orjson.loads(content)["input_tokens"]), ESTIMATE_HEADER not in response.headers
        except UpstreamError as error:
            raise ApiError(502, f"the node broke off: {error.message}") from error

    async def generate(self, call: Call) -> AsyncIterator[bytes]:
        """The node's own frames. A node that cannot be reached is waited for; one that breaks off is a failed stream."""
        # The node is always asked to stream: only a stream shows, by its pings, that a silent node is alive.
        raw = call.raw if call.body.get("stream") is True else orjson.dumps({**call.body, "stream": True})
        headers = {name: call.headers[name] for name in FORWARDED if name in call.headers} | {GATEWAY_HEADER: "1"}
        try:
            async with self._open("/v1/messages", raw, headers, self._headers_within) as response:
                if response.status != 200:
                    raise _api_error(response, await response.read())
                call.served = response.headers.get(SERVED_HEADER)
                yield b""
                async with aclosing(self._frames(response)) as frames:
                    async for frame in frames:
                        yield frame
        except UpstreamError as error:
            raise ApiError(502, f"the node broke off: {error.message}") from error

    async def _frames(self, response: Response) -> AsyncGenerator[bytes, None]:
        splitter = FrameSplitter()
        async for chunk in response.chunks(silence=self._silence):
            frames = splitter.feed(chunk)
            if is_in("error", frames):
                raise _told(frames)
            if frames:
                yield frames
        if splitter.pending:
            raise UpstreamError("it stopped inside an event")

    @asynccontextmanager
    async def _open(self, path: str, raw: bytes, headers: dict[str, str], within: float) -> AsyncIterator[Response]:
        async with AsyncExitStack() as stack:
            yield await self._held(stack, path, raw, headers, within)

    async def _held(
        self, stack: AsyncExitStack, path: str, raw: bytes, headers: dict[str, str], within: float
    ) -> Response:
        """Tries again while the node is away; no byte of an answer was seen, so a second try repeats nothing."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + HOLD_S
        dropped = 0
        while True:
            try:
                return await stack.enter_async_context(self._upstream.stream("POST", path, raw, headers, within))
            except UpstreamError as error:
                dropped += not error.refused
                if dropped > 1 or error.timed_out or loop.time() > deadline:
                    raise unavailable(f"the node is not reachable: {error.message}") from error
            await asyncio.sleep(RETRY_EVERY_S)

    async def _poll(self) -> None:
        while True:
            try:
                self._learn(await self._upstream.json("GET", "/internal/status", timeout=5))
            except UpstreamError as error:
                self._lost(error.message if error.status not in REFUSALS else TOKEN_REFUSED)
            except (KeyError, TypeError, AttributeError, ValueError):
                self._lost("what answers at the node's address is not an llmhost proxy of this version")
            await asyncio.sleep(POLL_READY_S if self._health.state == "ok" else POLL_STARTING_S)

    def _lost(self, reason: str) -> None:
        if self._health.detail != reason:
            log.warning("node %s: %s", self.node_id, reason)
        state: HealthState = "starting" if self._model is None else "failed"
        self._health = BackendHealth(state, reason, {}, retry_after=2)

    def _learn(self, status: dict[str, Any]) -> None:
        model = status.get("model")
        known = ModelInfo.__dataclass_fields__
        self._model = ModelInfo(**{k: v for k, v in model.items() if k in known}) if model else self._model
        backend = status["backend"]
        state: HealthState = "ok" if status["ready"] else backend["state"] if backend["state"] != "ok" else "starting"
        self._health = BackendHealth(
            state, backend.get("detail") or "", backend.get("components") or {}, backend.get("retry_after")
        )
        prefix = status.get("prefix") or {}
        self.reuse.prompt_tokens = prefix.get("prompt_tokens") or 0
        self.reuse.reused_tokens = prefix.get("reused_tokens") or 0


def _api_error(response: Response, content: bytes) -> ApiError:
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


def _told(frames: bytes) -> ApiError:
    """The failure that a node tells a gateway in its stream."""
    event = next(event for event in events(frames) if event.get("type") == "error")
    error = event.get("error") or {}
    kind = str(error.get("type") or "api_error")
    status = event.get("status") or STATUS_BY_TYPE.get(kind, 502)
    return ApiError(int(status), str(error.get("message") or "the node failed"), type=kind)
