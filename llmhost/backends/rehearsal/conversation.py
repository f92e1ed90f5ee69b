"""What the rehearsal reads out of the messages: the user's last own words, and which turn after them is asked for.

Claude Code puts text of its own around what the user typed: `<system-reminder>` stretches, messages with role `system`,
remarks on images and tools. None of that is the user speaking.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_REMARK = re.compile(r"|Tool loaded\.|\[Image: [^\]]*\]|\[Request interrupted by user[^\]]*\]")


@dataclass(frozen=True, slots=True)
class Conversation:
    """`text` is the last user text ("" if there is none), `turn` counts the assistant's turns since then.

    `results` (the text of each tool result) and `images` (their number) are what the last user message brought.
    """

    text: str
    turn: int
    results: tuple[str, ...]
    images: int


def read_conversation(messages: list[dict[str, Any]]) -> Conversation:
    """Find the last user text and what came after it. A last message of role assistant is a prefill, not a turn."""
    at = next((at for at in range(len(messages) - 1, -1, -1) if own_text(messages[at])), None)
    last = _last_user(messages)
    results = tuple(_result_text(block) for block in blocks_of(last) if block.get("type") == "tool_result")
    images = sum(_count_images(block) for block in blocks_of(last))
    if at is None:
        return Conversation("", _turns(messages), results, images)
    return Conversation(own_text(messages[at]), _turns(messages[at + 1 :]), results, images)


def own_text(message: dict[str, Any]) -> str:
    """The text in a message that a person typed: its last block of such text, "" if there is none.

    The last block and not all of them, because Claude Code adds its instruction to compact as one more block to whatever
    message is the last, be it the prompt or a tool result (seen with 2.1.329).
    """
    if message["role"] != "user":
        return ""
    texts = (block["text"] for block in blocks_of(message) if block.get("type") == "text")
    kept = [text for text in (_REMINDER.sub("", text).strip() for text in texts) if not _REMARK.fullmatch(text)]
    return kept[-1] if kept else ""


def blocks_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The content blocks of a message or of a tool result; a string is one text block."""
    content = message.get("content")
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content or () if isinstance(block, dict)]


def _turns(messages: list[dict[str, Any]]) -> int:
    roles = [message["role"] for message in messages if message["role"] != "system"]
    if roles and roles[-1] == "assistant":
        roles.pop()
    pairs = zip(["user", *roles], roles, strict=False)
    return sum(before != "assistant" and role == "assistant" for before, role in pairs)


def _last_user(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return next((message for message in reversed(messages) if message["role"] == "user"), {})


def _result_text(block: dict[str, Any]) -> str:
    return "\n".join(str(part.get("text", "")) for part in blocks_of(block) if part.get("type") == "text")


def _count_images(block: dict[str, Any]) -> int:
    if block.get("type") == "tool_result":
        return sum(part.get("type") == "image" for part in blocks_of(block))
    return int(block.get("type") == "image")
