"""What the exact cache may read, keep and join. Rules and reasons: cache facts §4.4 and §4.6."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from llmhost.messages.answer import Answer

API_DEFAULT_TEMPERATURE = 1.0
STORABLE_STOPS = frozenset({"end_turn", "stop_sequence", "tool_use"})
REPLAYABLE_BLOCKS = frozenset({"text", "thinking", "tool_use"})
REMEMBERED_REPEATS = 8192


@dataclass(frozen=True, slots=True)
class Permission:
    """What one request lets the cache do. `join`: may share a generation that is already under way."""

    read: bool
    store: bool
    join: bool


NOTHING = Permission(read=False, store=False, join=False)


class ExactPolicy:
    """Decides per request. It remembers which sessions asked for which sampled answers, to tell a repeat from a first time."""

    def __init__(self, *, cache_sampled: bool = True) -> None:
        self._cache_sampled = cache_sampled
        self._asked: OrderedDict[tuple[str, str], None] = OrderedDict()

    def permit(self, key: str, body: dict[str, Any], session: str | None, cache_control: str) -> Permission:
        """`cache_control` is the request header, lower case. `no-store`: neither read nor store; `no-cache`: do not read."""
        if "no-store" in cache_control or body.get("max_tokens") == 0:
            return NOTHING
        read = "no-cache" not in cache_control
        temperature = body.get("temperature")
        if not temperature:
            return Permission(read, store=True, join=read)
        # Whoever sets a temperature above 0 may be sampling: n equal requests at once want n answers, so they are never joined.
        fresh = self._first_time(key, session) if session else temperature == API_DEFAULT_TEMPERATURE
        return Permission(read and fresh and self._cache_sampled, store=True, join=False)

    def _first_time(self, key: str, session: str) -> bool:
        """False for a repeat by the same session, which means "regenerate".

        Where no session is known any request may be a repeat; only the API's own default, which many clients spell out, counts as unset.
        """
        asked = (key, session)
        known = asked in self._asked
        self._asked[asked] = None
        self._asked.move_to_end(asked)
        if len(self._asked) > REMEMBERED_REPEATS:
            self._asked.popitem(last=False)
        return not known


def storable(answer: Answer) -> bool:
    """Only complete answers that a replay can reproduce: no refusal, no cut-off at max_tokens.

    Nothing blank either: Claude Code asks again after one, and must not get the same again.
    """
    return (
        answer.stop_reason in STORABLE_STOPS
        and any(block["type"] == "tool_use" or block.get("text", "").strip() for block in answer.content)
        and all(block["type"] in REPLAYABLE_BLOCKS for block in answer.content)
    )
