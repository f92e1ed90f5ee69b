"""One request's way through the fleet: which node next, when to wait, when to give up.

Until the first frame was passed on, a try that failed leaves nothing behind, so another node may answer. What speaks of the request
itself (400, 404, 413, 429 …) is passed on from the first node that says it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from llmhost.backends.base import Call
from llmhost.backends.fleet.affinity import Placements
from llmhost.backends.fleet.failures import NodeFailure
from llmhost.backends.fleet.members import Members
from llmhost.backends.fleet.refusals import refusal
from llmhost.backends.fleet.router import NONE_ACTIVE, choose
from llmhost.backends.node import Ask, NodeBackend
from llmhost.messages.errors import ApiError, model_unknown

log = logging.getLogger(__name__)

NOT_FOUND = 404
MOVES_ON = frozenset({500, 502, 503, 504, 529})
ERRORS_500 = 2  # what two nodes could not digest is the request's own fault, and would go on to break the rest
DROPS = 3  # the same of a request that ends connections, or freezes whoever reads it
LOOK_AGAIN_S = 0.25  # while waiting: what is worth waiting for changes with time alone


class Trip:
    """The tries of one request. `conversation` None: it has none, `key` only breaks ties. `model`: see `Call`."""

    def __init__(
        self,
        members: Members,
        placements: Placements,
        key: bytes,
        conversation: str | None,
        hold_s: float,
        model: str | None = None,
    ) -> None:
        self._members = members
        self._placements = placements
        self._key = key
        self._conversation = conversation
        self._hold = hold_s
        self._model = model
        self._loop = asyncio.get_running_loop()
        self._until: float | None = None
        self._spent: set[str] = set()
        self._failures: list[NodeFailure] = []

    async def frames(self, ask: Ask, call: Call) -> AsyncGenerator[bytes, None]:
        """The frames of the first node that answers; in one piece for a client that takes the answer whole, so that until its end
        another node can still answer. Raises ApiError."""
        passed = False
        while not passed:
            node = await self.next()
            began = self._begin(node)
            outcome = "gone"
            try:
                async with aclosing(self._answer(node, ask, call)) as frames:
                    async for frame in frames:
                        if not passed:
                            passed = True
                            self._arrived(node)
                        yield frame
                outcome = "ok"
            except NodeFailure as failure:
                outcome = "failed"
                self._judge(node, failure, began)
                if passed:
                    raise failure.error from failure
            finally:
                node.requests[outcome] += 1
                node.breaker.abandoned(began)

    async def _answer(self, node: NodeBackend, ask: Ask, call: Call) -> AsyncGenerator[bytes, None]:
        """The node's frames, or all of them at once for a client that takes the answer whole."""
        pieces: list[bytes] = []
        async with aclosing(node.answer(ask, call)) as frames:
            async for frame in frames:
                if call.body.get("stream") is True:
                    yield frame
                    continue
                if not pieces:
                    self._arrived(node)
                pieces.append(frame)
        if pieces:
            yield b"".join(pieces)

    async def count(self, raw: bytes) -> tuple[int, bool]:
        """The same for a count of tokens."""
        while True:
            node = await self.next()
            began = self._begin(node)
            try:
                return await node.count(raw)  # says nothing of the engine, so the breaker learns nothing from it
            except NodeFailure as failure:
                self._judge(node, failure, began)
            finally:
                node.breaker.abandoned(began)

    async def next(self) -> NodeBackend:
        """The node to ask now. Raises ApiError: what the nodes said, or that there is none."""
        while True:
            placed = self._placements.of(self._conversation) if self._conversation else None
            views = self._members.views(self._model)
            bound = self._conversation is not None
            active = self._placements.active() if bound and placed is None else NONE_ACTIVE
            choice = choose(views, self._key, placed=placed, bound=bound, spent=self._spent, active=active)
            if choice.order and (not choice.wait or self._time_is_up()):
                return self._members.get(choice.order[0])
            if not choice.order and not any(view.hopeful and view.id not in self._spent for view in views):
                raise self._last_word()
            await self._wait()

    async def _wait(self) -> None:
        now = self._loop.time()
        if self._until is None:
            self._until = now + self._hold
        if self._time_is_up():
            raise self._last_word()
        await self._members.changed(min(LOOK_AGAIN_S, self._until - now))

    def _time_is_up(self) -> bool:
        return self._until is not None and self._loop.time() >= self._until

    def _last_word(self) -> ApiError:
        """The most telling of what the nodes answered; where none did, why none can."""
        answered = [failure.error for failure in self._failures if failure.kind in ("answered", "other_model")]
        if answered:
            return max(answered, key=lambda error: (error.retry_after is not None, error.status))
        if any(failure.kind == "silent" for failure in self._failures):
            return self._failures[-1].error
        if self._model is not None and len(self._members) and not self._members.with_any(self._model):
            ours = self._members.model
            return model_unknown(self._model, ours.id if ours else None)
        return refusal(self._members, self._model)

    def _begin(self, node: NodeBackend) -> float:
        now = self._loop.time()
        node.breaker.begin(now)
        if self._conversation and self._placements.of(self._conversation) is None:
            self._placements.put(
                self._conversation, node.config.id
            )  # its next request may come before this one is answered
        return now

    def _arrived(self, node: NodeBackend) -> None:
        node.breaker.succeeded()
        if self._conversation:
            self._placements.put(self._conversation, node.config.id)

    def _judge(self, node: NodeBackend, failure: NodeFailure, began: float) -> None:
        """Learn from a failed try. Raises ApiError when no other node is to be asked."""
        if failure.broken:
            node.breaker.failed(began, self._loop.time())
        elif failure.kind == "answered":
            node.breaker.succeeded()
        self._failures.append(failure)
        error = failure.error
        log.info("node %s did not answer (%s, %s)", node.config.id, failure.kind, error.status)
        if failure.kind == "answered" and error.status not in MOVES_ON and not self._lacks_model(node, error):
            raise error from failure
        if self._seen(500) >= ERRORS_500 or self._seen("dropped") + self._seen("lost") >= DROPS:
            raise error from failure
        if failure.kind in ("answered", "other_model", "silent"):
            self._spent.add(node.config.id)

    def _lacks_model(self, node: NodeBackend, error: ApiError) -> bool:
        """Whether the node has it no longer, which we did not know: another may."""
        if self._model is None or error.status != NOT_FOUND:
            return False
        node.watch.look_again()
        return True

    def _seen(self, what: int | str) -> int:
        if isinstance(what, str):
            return sum(failure.kind == what for failure in self._failures)
        return sum(failure.kind == "answered" and failure.error.status == what for failure in self._failures)
