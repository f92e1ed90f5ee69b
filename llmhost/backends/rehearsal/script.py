"""From directives to a script: everything that one answer will do, decided before the first byte.

A word counts as one token, in text, reasoning and tool input alike. `tool_choice`, `stop_sequences`, `max_tokens` and a
disabled `thinking` change the script as they would change a model's answer.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import orjson

from llmhost.backends.rehearsal.directives import (
    Cut,
    Directive,
    Fail,
    Overflow,
    Pace,
    Say,
    Stall,
    Think,
    Tool,
    Words,
)
from llmhost.backends.rehearsal.instance import WORD, minimal_instance

_PIECE = re.compile(r"\s*\S+|\s+\Z")
_FILLER = ("no", "model", "is", "behind", "these", "words,", "they", "are", "a", "rehearsal.")


@dataclass(frozen=True, slots=True)
class Speech:
    """Words of visible text or reasoning, each said `pace` seconds after the one before."""

    kind: Literal["text", "thinking"]
    text: str
    pieces: tuple[str, ...]
    pace: float
    whole: bool = True


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call; `pieces` are its input as JSON text."""

    name: str
    pieces: tuple[str, ...]
    pace: float
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """An API error of this status; None = the prompt is too long."""

    status: int | None


Step: TypeAlias = Speech | ToolCall | Pause | Failure


@dataclass(frozen=True, slots=True)
class Script:
    """The steps of one answer and how it ends. `complete` False: the stream stops without its end."""

    steps: tuple[Step, ...]
    stop_reason: str
    stop_sequence: str | None
    output_tokens: int
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Budget:
    """How many words may be said, and the stop reason when they run out."""

    words: int
    reason: str


def write_script(body: dict[str, Any], directives: list[Directive], answer: str, budget: Budget) -> Script:
    """The script for a request. `answer` is said where the directives leave the text open. Raises SchemaError."""
    directives = _with_answer(directives, body, answer)
    directives = _obey_thinking(_obey_tool_choice(directives, body), body)
    cut = next((directive.after_words for directive in directives if isinstance(directive, Cut)), None)
    return _end(list(_steps(directives)), body.get("stop_sequences") or [], budget, cut)


def pieces_of(text: str) -> tuple[str, ...]:
    """The words of a text with the blanks before them: joined they are the text again."""
    return tuple(_PIECE.findall(text))


def _with_answer(directives: list[Directive], body: dict[str, Any], answer: str) -> list[Directive]:
    if any(isinstance(directive, Say | Words | Tool | Fail | Overflow) for directive in directives):
        return directives
    schema = _output_schema(body)
    return [*directives, Say(answer if schema is None else orjson.dumps(minimal_instance(schema)).decode())]


def _output_schema(body: dict[str, Any]) -> Any:
    """The schema of `output_config.format` (or of the older `output_format`), None without one."""
    config = body.get("output_config")
    wanted = (config.get("format") if isinstance(config, dict) else None) or body.get("output_format")
    return wanted.get("schema") if isinstance(wanted, dict) and wanted.get("type") == "json_schema" else None


def _obey_thinking(directives: list[Directive], body: dict[str, Any]) -> list[Directive]:
    if (body.get("thinking") or {}).get("type") != "disabled":
        return directives
    return [directive for directive in directives if not isinstance(directive, Think)]


def _obey_tool_choice(directives: list[Directive], body: dict[str, Any]) -> list[Directive]:
    choice = body.get("tool_choice") or {}
    if choice.get("type") == "none":
        return [_refused(directive) if isinstance(directive, Tool) else directive for directive in directives]
    if choice.get("type") in ("any", "tool") and not any(isinstance(d, Fail | Overflow) for d in directives):
        directives = _forced(directives, body, choice)
    return _first_tool_only(directives) if choice.get("disable_parallel_tool_use") else directives


def _refused(tool: Tool) -> Say:
    return Say(f"[tool_choice is none, so this call was not made: {tool.name} {orjson.dumps(tool.arguments).decode()}]")


def _forced(directives: list[Directive], body: dict[str, Any], choice: dict[str, Any]) -> list[Directive]:
    """A forced answer is a tool call and no text; directed calls stay if they are the ones that are forced."""
    wanted = choice.get("name") if choice["type"] == "tool" else None
    kept: list[Directive] = [d for d in directives if not isinstance(d, Say | Words) and _may_call(d, wanted)]
    tools = [tool for tool in body.get("tools") or () if _is_candidate(tool, wanted)]
    if not tools or any(isinstance(directive, Tool) for directive in kept):
        return kept if tools else directives
    arguments = minimal_instance(tools[0].get("input_schema") or {"type": "object"})
    return [*kept, Tool(tools[0]["name"], arguments if isinstance(arguments, dict) else {})]


def _may_call(directive: Directive, wanted: str | None) -> bool:
    return not isinstance(directive, Tool) or wanted is None or directive.name == wanted


def _is_candidate(tool: dict[str, Any], wanted: str | None) -> bool:
    return bool(tool["name"] == wanted) if wanted else not tool.get("defer_loading")


def _first_tool_only(directives: list[Directive]) -> list[Directive]:
    first = next((directive for directive in directives if isinstance(directive, Tool)), None)
    return [directive for directive in directives if not isinstance(directive, Tool) or directive is first]


def _steps(directives: list[Directive]) -> Iterator[Step]:
    """Directives as steps: the pace applied, one line break between two texts that follow each other."""
    pace = next((directive.seconds for directive in directives if isinstance(directive, Pace)), 0.0)
    said = False
    for directive in directives:
        if isinstance(directive, Pace):
            pace = directive.seconds
        elif isinstance(directive, Say | Words):
            text = directive.text if isinstance(directive, Say) else _filler(directive.count)
            text = f"\n{text}" if said and text else text
            said = said or bool(text)
            yield Speech("text", text, pieces_of(text), pace)
        elif isinstance(directive, Think):
            said = False
            yield Speech("thinking", directive.text, pieces_of(directive.text), pace)
        elif isinstance(directive, Tool):
            said = False
            yield ToolCall(directive.name, pieces_of(orjson.dumps(directive.arguments).decode()), pace)
        elif isinstance(directive, Stall):
            yield Pause(directive.seconds)
        elif isinstance(directive, Fail | Overflow):
            yield Failure(directive.status if isinstance(directive, Fail) else None)


def _filler(count: int) -> str:
    return " ".join(_FILLER[at % len(_FILLER)] for at in range(count))


def _end(steps: list[Step], stops: list[str], budget: Budget, cut: int | None) -> Script:
    """Play the steps on paper until something ends them."""
    kept: list[Step] = []
    used = 0
    for step in steps:
        if not isinstance(step, Speech | ToolCall):
            kept.append(step)
            continue
        step, matched = _stopped(step, stops)
        if cut is not None and cut <= budget.words and used + len(step.pieces) > cut:
            kept.extend([_shortened(step, cut - used)] if cut > used else [])
            return Script(tuple(kept), "", None, cut, complete=False)
        if used + len(step.pieces) > budget.words:
            if isinstance(step, Speech):  # half a tool call is no use to anyone
                kept.append(_shortened(step, budget.words - used))
                used = budget.words
            return Script(tuple(kept), budget.reason, None, used)
        kept.append(step)
        used += len(step.pieces)
        if matched is not None:
            return Script(tuple(kept), "stop_sequence", matched, used, complete=cut is None)
    called = any(isinstance(step, ToolCall) for step in kept)
    return Script(tuple(kept), "tool_use" if called else "end_turn", None, used, complete=cut is None)


def _stopped(step: Speech | ToolCall, stops: list[str]) -> tuple[Speech | ToolCall, str | None]:
    """The step up to the first stop sequence in it. Only visible text is looked at, as the API has it."""
    if isinstance(step, ToolCall) or step.kind != "text":
        return step, None
    found = [(at, stop) for stop in stops if stop and (at := step.text.find(stop)) >= 0]
    if not found:
        return step, None
    at, stop = min(found)
    text = step.text[:at]
    return replace(step, text=text, pieces=pieces_of(text)), stop


def _shortened(step: Speech | ToolCall, words: int) -> Speech | ToolCall:
    return replace(step, pieces=step.pieces[:words], whole=False)


def signature_of(text: str) -> str:
    """What closes a thinking block; nobody checks it, but clients send it back."""
    return f"{WORD}-{hashlib.blake2b(text.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"
