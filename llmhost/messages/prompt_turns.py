"""The conversation as turns: who spoke, in an order that never changes behind the engine's back.

Messages of role `system` inside the conversation are folded into the turn they follow. Hoisting them to the top, as model templates
do, would change the prompt's beginning; most templates drop or refuse them anywhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from llmhost.messages.prompt import Part, Thinking, ToolCall, ToolResult, Turn
from llmhost.messages.prompt_blocks import BETWEEN, BlockReader, joined

OPENING, CLOSING = "<system-reminder>", "</system-reminder>"
ERROR = "Error: "


def conversation(messages: list[Any], reader: BlockReader, *, keep_thinking: bool) -> tuple[list[str], list[Turn]]:
    """The texts of the leading system messages, and the turns. There is always a turn: an empty one if no one else spoke."""
    known = [message for message in messages if isinstance(message, dict)]
    leading = list(takewhile(lambda message: message.get("role") == "system", known))
    folder = _Folder(reader, keep_thinking=keep_thinking)
    for message in known[len(leading) :]:
        folder.add(message)
    return [reader.text(message.get("content")) for message in leading], folder.finish()


def reminder(text: str) -> str:
    """Text of the system in the mouth of the user, in the form Claude Code itself uses."""
    return text if text.startswith(OPENING) else f"{OPENING}\n{text}\n{CLOSING}"


class _Folder:
    def __init__(self, reader: BlockReader, *, keep_thinking: bool) -> None:
        self._reader = reader
        self._keep_thinking = keep_thinking
        self._turns: list[Turn] = []
        self._waiting: list[str] = []
        self._ids: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def add(self, message: dict[str, Any]) -> None:
        role, content = message.get("role"), message.get("content")
        if role == "assistant":
            self._flush()
            self._turns.append(Turn("assistant", joined(self._assistant(content), "")))
        elif role == "system":
            self._fold(self._reader.text(content))
        else:
            self._user(content)

    def finish(self) -> list[Turn]:
        self._flush()
        return self._turns or [Turn("user", [])]

    def _fold(self, text: str) -> None:
        """After a user turn: at its end. After an assistant turn it waits for what the user brings next, so that nothing
        comes between a call and its result."""
        if not text:
            return
        if self._turns and self._turns[-1].role == "user" and not self._waiting:
            _append(self._turns[-1], reminder(text))
        else:
            self._waiting.append(reminder(text))

    def _flush(self) -> None:
        if self._waiting:
            self._turns.append(Turn("user", [BETWEEN.join(self._waiting)]))
            self._waiting = []

    def _user(self, content: Any) -> None:
        blocks = content if isinstance(content, list) else []
        turn = Turn("user", [self._result(block) for block in blocks if _is_result(block)])
        for text in self._waiting:
            _append(turn, text)
        self._waiting = []
        rest = [block for block in blocks if not _is_result(block)] if blocks else content
        turn.parts = joined(iter([*turn.parts, *self._reader.pieces(rest)]), BETWEEN)
        self._turns.append(turn)

    def _result(self, block: dict[str, Any]) -> ToolResult:
        id = str(block.get("tool_use_id"))
        pieces = self._reader.pieces(block.get("content"))
        text = BETWEEN.join(piece for piece in pieces if isinstance(piece, str))
        images = [piece for piece in pieces if not isinstance(piece, str)]
        marked = ERROR + text if block.get("is_error") is True else text
        return ToolResult(self._id(id), self._names.get(id, ""), marked, images)

    def _assistant(self, content: Any) -> Iterator[Part]:
        if not isinstance(content, list):
            yield from self._reader.pieces(content)
            return
        for block in content:
            kind = block.get("type") if isinstance(block, dict) else None
            if kind == "tool_use":
                yield self._call(block)
            elif kind == "thinking":
                yield from self._thinking(block)
            else:
                yield self._reader.piece(block)

    def _call(self, block: dict[str, Any]) -> ToolCall:
        id, name, given = str(block.get("id")), str(block.get("name")), block.get("input")
        self._names[id] = name
        return ToolCall(self._id(id), name, given if isinstance(given, dict) else {})

    def _thinking(self, block: dict[str, Any]) -> Iterator[Part]:
        text = block.get("thinking")
        if self._keep_thinking and isinstance(text, str) and text:
            yield Thinking(text)

    def _id(self, id: str) -> str:
        return self._ids.setdefault(id, f"call_{len(self._ids) + 1}")


def _is_result(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_result"


def _append(turn: Turn, text: str) -> None:
    """Put text at the end of a user turn: into its last tool result when that is what stands there."""
    last = turn.parts[-1] if turn.parts else None
    if isinstance(last, ToolResult):
        last.text = last.text + BETWEEN + text if last.text else text
    elif isinstance(last, str):
        turn.parts[-1] = last + BETWEEN + text
    else:
        turn.parts.append(text)
