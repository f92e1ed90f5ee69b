"""One node: another llmhost proxy, asked once. The API passes through untouched.

Who is asked, and what becomes of a try that failed, is the fleet's business (`llmhost.backends.fleet`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import orjson

from llmhost.backends.base import Call, NodeReading
from llmhost.backends.fleet.breaker import Breaker
from llmhost.backends.fleet.failures import NodeFailure, api_error, broken_off, told_failure, unreachable
from llmhost.backends.fleet.watch import TOKEN_REFUSED, NodeWatch
from llmhost.backends.http import Response, Upstream, UpstreamError
from llmhost.backends.patience import CalledBack, Waiting, upload_s
from llmhost.core.server_config import NodeConfig, Timing
from llmhost.messages.errors import ApiError, unavailable
from llmhost.messages.frames import FrameSplitter, is_in
from llmhost.messages.headers import ESTIMATE_HEADER, GATEWAY_HEADER, REFUSED_HEADER, SERVED_HEADER

FORWARDED = ("anthropic-version", "anthropic-beta", "x-claude-code-session-id", "x-claude-code-agent-id")
COUNT_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class Ask:
    """A request as nodes are sent it. `identity` = the model it must be answered by, None = whatever the node has."""

    raw: bytes
    headers: dict[str, str]
    identity: str | None = None

    @classmethod
    def of(cls, call: Call, identity: str | None) -> Ask:
        # The node is always asked to stream: only a stream shows, by its pings, that a silent node is alive.
        raw = call.raw if call.body.get("stream") is True else orjson.dumps({**call.body, "stream": True})
        headers = {name: call.headers[name] for name in FORWARDED if name in call.headers} | {GATEWAY_HEADER: "1"}
        return cls(raw, headers, identity)


class NodeBackend:
    """One node proxy, watched from the background. To be made inside a running event loop."""

    def __init__(self, config: NodeConfig, timing: Timing, on_look: Callable[[], None]) -> None:
        self.config = config
        self.in_flight = 0
        self.breaker = Breaker()
        self.requests: Counter[str] = Counter()
        self._upstream = Upstream(config.url, config.token)
        self._silence = timing.upstream_silence
        # a node sends its headers when the first-bytes time is over at the latest; one that does not is frozen. The watch knows sooner
        # of most of these, but not of one that still answers on another connection.
        self._headers_within = timing.first_byte + timing.upstream_silence
        self._waiting = Waiting()
        self._on_look = on_look
        self.watch = NodeWatch(self._upstream, config.id, self._looked)
        self.idle = asyncio.Event()
        self.idle.set()
        self._state = ""
        self._since = ""

    async def aclose(self) -> None:
        """End everything now."""
        await self.watch.aclose()
        await self._upstream.aclose()

    async def retire(self) -> None:
        """Let what is under way finish, then end."""
        await self.watch.aclose()
        try:
            await self.idle.wait()
        finally:
            await self._upstream.aclose()

    def note_state(self, state: str) -> None:
        """Remember since when the node has been in this state."""
        if state != self._state:
            self._state = state
            self._since = datetime.now(UTC).isoformat(timespec="seconds")

    def reading(self, detail: str) -> NodeReading:
        model = self.watch.model
        breaker = self.breaker.state(asyncio.get_running_loop().time())
        return NodeReading(
            self.config.id,
            self._state,
            detail,
            self.in_flight,
            breaker,
            model.id if model else None,
            self._since,
            dict(self.requests),
            tuple(one.id for one in self.watch.models),
        )

    async def answer(self, ask: Ask, call: Call) -> AsyncGenerator[bytes, None]:
        """The node's own frames, from its first content on: a `message_start` and pings alone are kept back, for until then another node
        can still answer. Raises NodeFailure, before the first frame or after it."""
        call.node, call.served = self.config.id, None
        async with self._counted() as stack:
            response = await self._open(stack, "/v1/messages", ask, self._headers_within)
            call.served = response.headers.get(SERVED_HEADER)
            if ask.identity and call.served and call.served != ask.identity:
                self.watch.look_again()
                raise NodeFailure(
                    "other_model",
                    unavailable(f"Node {self.config.id} serves another model now. More: llmhost status", 2),
                )
            async with aclosing(self._frames(response)) as frames:
                async for frame in frames:
                    yield frame

    async def count(self, raw: bytes) -> tuple[int, bool]:
        """Prompt tokens, and whether the count is exact. Raises NodeFailure."""
        async with self._counted() as stack:
            response = await self._open(stack, "/v1/messages/count_tokens", Ask(raw, {}), COUNT_WITHIN_S)
            content = await self._whole(response)
        try:
            return int(orjson.loads(content)["input_tokens"]), ESTIMATE_HEADER not in response.headers
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
            raise NodeFailure("answered", ApiError(502, "the node's count was not understood")) from None

    def _counted(self) -> _Counted:
        return _Counted(self)

    def _looked(self) -> None:
        self._on_look()  # first: whoever is called back must not find the node fit
        if self.watch.lost == "silent":
            self._waiting.call_back()

    async def _open(self, stack: AsyncExitStack, path: str, ask: Ask, within: float) -> Response:
        sending = self._upstream.stream("POST", path, ask.raw, ask.headers, within + upload_s(ask.raw))
        try:
            async with self._waiting.on(ask.raw):
                response = await stack.enter_async_context(sending)
        except CalledBack:
            raise NodeFailure("lost", unreachable(self.config.id, self.watch.health.detail)) from None
        except UpstreamError as error:
            raise self._unreached(error) from error
        if response.status != 200:
            raise self._answered(response, await self._whole(response))
        return response

    def _unreached(self, error: UpstreamError) -> NodeFailure:
        how: Literal["refused", "dropped", "silent"] = (
            "refused" if error.refused else "silent" if error.timed_out else "dropped"
        )
        self.watch.suspect(how, error.message)
        return NodeFailure(how, unreachable(self.config.id, error.message))

    def _answered(self, response: Response, content: bytes) -> NodeFailure:
        if REFUSED_HEADER in response.headers:
            self.watch.suspect("unfit", TOKEN_REFUSED)
        return NodeFailure("answered", api_error(response, content))

    async def _frames(self, response: Response) -> AsyncGenerator[bytes, None]:
        splitter = FrameSplitter()
        kept: bytes | None = b""
        try:
            async for chunk in response.chunks(silence=self._silence):
                frames = splitter.feed(chunk)
                if is_in("error", frames):
                    raise NodeFailure("answered", told_failure(frames))
                if kept is not None:
                    kept += frames if is_in("message_start", frames) else b""
                    if not _has_content(frames):
                        continue
                    frames, kept = kept if is_in("message_start", frames) else kept + frames, None
                if frames:
                    yield frames
        except UpstreamError as error:
            self.watch.look_again()
            raise broken_off(self.config.id, error.message, silent=error.timed_out) from error
        if splitter.pending or kept is not None:
            raise broken_off(self.config.id, "it stopped before its end")

    async def _whole(self, response: Response) -> bytes:
        try:
            return await response.read()
        except UpstreamError as error:
            raise broken_off(self.config.id, error.message) from error

    def __repr__(self) -> str:
        return f"NodeBackend({self.config.id})"


class _Counted(AsyncExitStack):
    """What is open of one try, which counts as in flight until all of it is closed."""

    def __init__(self, node: NodeBackend) -> None:
        super().__init__()
        self._node = node
        node.in_flight += 1
        node.idle.clear()

    async def __aexit__(self, *details: Any) -> bool | None:
        try:
            return await super().__aexit__(*details)
        finally:
            self._node.in_flight -= 1
            if not self._node.in_flight:
                self._node.idle.set()


def _has_content(frames: bytes) -> bool:
    return is_in("content_block_start", frames) or is_in("message_delta", frames)
