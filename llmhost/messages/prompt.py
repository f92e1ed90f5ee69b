"""A request of the Messages API as the engine is to see it: the form between the API and any codec.

What must never move is decided here, once for all codecs: which text a turn has and in which order things stand. Append-only
by construction: with every answered turn the next request's prompt begins with this one's, byte for byte, wherever `cache_control`
went, whichever spelling (string or blocks) a message took, and whatever tools were loaded in between. The engine's prefix cache
lives on that.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

ChoiceKind = Literal["auto", "any", "tool", "none"]


@dataclass(frozen=True, slots=True)
class Image:
    """A picture. `data` is base64, as it came."""

    media_type: str
    data: str


@dataclass(frozen=True, slots=True)
class Thinking:
    """Reasoning that an earlier answer showed."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call in the history. `id` is renumbered (`call_1`, …) by first appearance, since clients rename ids."""

    id: str
    name: str
    input: dict[str, Any]


@dataclass(slots=True)
class ToolResult:
    """What a call gave back. `text` already says when it was an error."""

    id: str
    name: str
    text: str
    images: list[Image] = field(default_factory=list)


Part: TypeAlias = str | Image | Thinking | ToolCall | ToolResult


@dataclass(slots=True)
class Turn:
    """One turn. A user turn holds first its tool results, then texts and images; an assistant turn keeps the order it was made in.

    Two texts never stand side by side.
    """

    role: Literal["user", "assistant"]
    parts: list[Part]


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool the model is told of before the conversation. `schema` is JSON Schema, as the client gave it."""

    name: str
    description: str
    schema: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether calls are free, demanded (`any`, `tool` with its `name`) or forbidden; `parallel` False allows one call an answer."""

    kind: ChoiceKind = "auto"
    name: str | None = None
    parallel: bool = True


@dataclass(slots=True)
class Prompt:
    """Everything a codec needs.

    `schemas` holds the input schema of every tool that can be called, deferred ones included. `max_tokens` None means the client named
    none, 0 that it only wants the prompt read. `think` tells whether to reason, `effort` how hard. `format` is the JSON Schema the
    answer must meet. `unread` are base64 documents whose text `read_pdf` did not have: their places hold a note.
    """

    system: str
    tools: list[Tool]
    turns: list[Turn]
    schemas: dict[str, dict[str, Any]]
    tool_choice: ToolChoice = field(default_factory=ToolChoice)
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    sampling: dict[str, float] = field(default_factory=dict)
    think: bool = False
    effort: str | None = None
    format: dict[str, Any] | None = None
    unread: list[str] = field(default_factory=list)


PdfReader: TypeAlias = Callable[[str], str | None]
