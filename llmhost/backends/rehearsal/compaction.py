"""When a conversation outgrows the window Claude Code has it summarised and goes on from the summary.

So that a rehearsal can go on too, the summary repeats the `@rehearse` lines that were not played yet. The wordings were seen
with 2.1.329, which asks a second time when the answer holds no `<summary>`.
"""

from __future__ import annotations

from typing import Any

from llmhost.backends.rehearsal.conversation import blocks_of, own_text, read_conversation
from llmhost.backends.rehearsal.directives import PREFIX, lines_of

CONTINUED = "This session is being continued from a previous conversation"


def asks_for_summary(text: str) -> bool:
    return "<analysis>" in text and "<summary>" in text and not text.startswith(CONTINUED)


def is_continued(messages: list[dict[str, Any]]) -> bool:
    """Whether the conversation begins with a summary of an earlier one."""
    first = next((text for message in messages if (text := own_text(message))), "")
    return first.startswith(CONTINUED)


def summary(answer: str, messages: list[dict[str, Any]]) -> str:
    """The answer to a request for a summary: `answer`, and what is still to be played."""
    before = read_conversation(_without_last_text(messages))
    pending = [f"{PREFIX} {line}" for line in lines_of(before.text)[before.turn :]]
    return "\n".join(["<summary>", answer, *pending, "</summary>"])


def _without_last_text(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The messages as they were before the request for the summary was added as the last block of text."""
    *before, last = messages
    blocks = blocks_of(last)
    at = max((at for at, block in enumerate(blocks) if block.get("type") == "text"), default=len(blocks))
    return [*before, {**last, "content": blocks[:at] + blocks[at + 1 :]}]
