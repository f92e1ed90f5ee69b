"""The language of `@rehearse` lines.

    line      := "@rehearse" directive (";" directive)*
    directive := tool NAME [{json input}]   a tool call; several in one line are parallel calls
               | say TEXT                   visible text, exactly this; `say ""` says nothing, but accepts the request
               | think TEXT                 reasoning, unless the request disabled thinking
               | words N                    N words of filler text
               | pace MS_PER_WORD           how fast it is said (default: at once)
               | stall SECONDS              silence. Before anything was said the request is not accepted yet
               | fail STATUS                an API error of this status; after something was said, a stream that breaks off
               | cut AFTER_WORDS            the stream ends after that many words, without `message_stop`
               | overflow                   "prompt is too long", in a conversation that was not compacted yet

Directives happen in the order in which they are written. `cut` may stand anywhere and counts from the first word; `pace`
rules what follows it, the first one also what stands before it. TEXT ends at the line's end, or before a `;` that is
followed by a directive's name and stands outside double quotes; a TEXT that is wholly one JSON string is unquoted, so
that it can hold anything: `say "one\\ntwo; say three"`. A line without `say`, `words`, `tool`, `fail` and `overflow`
leaves the text of the answer to the rehearsal.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

PREFIX = "@rehearse"
MAX_WORDS = 1_000_000
MAX_PACE_MS = 60_000
MAX_STALL_S = 86_400


@dataclass(frozen=True, slots=True)
class Say:
    text: str


@dataclass(frozen=True, slots=True)
class Think:
    text: str


@dataclass(frozen=True, slots=True)
class Tool:
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Words:
    count: int


@dataclass(frozen=True, slots=True)
class Pace:
    seconds: float


@dataclass(frozen=True, slots=True)
class Stall:
    seconds: float


@dataclass(frozen=True, slots=True)
class Fail:
    status: int


@dataclass(frozen=True, slots=True)
class Cut:
    after_words: int


@dataclass(frozen=True, slots=True)
class Overflow:
    pass


Directive: TypeAlias = Say | Think | Tool | Words | Pace | Stall | Fail | Cut | Overflow


class DirectiveError(ValueError):
    """A line that begins with `@rehearse` and cannot be followed. Its text names the line and says why."""


_NAMES = ("tool", "say", "think", "pace", "words", "stall", "fail", "cut", "overflow")
_SEPARATOR = re.compile(r"\s*;\s*")
_NEXT = rf"\s*;\s*(?:{'|'.join(_NAMES)})(?:\s|;|$)"
# A quoted stretch is taken whole; a quote that is never closed is an ordinary character.
_TEXT = re.compile(rf'(?:"(?:[^"\\]|\\.)*"|(?!{_NEXT}).)*')
_WORD = re.compile(r"[^\s;]+")
_TOOL_NAME = re.compile(r"[^\s;{]+")
_BLANK = re.compile(r"\s*")
_DECODER = json.JSONDecoder()
_HALF_A_CHARACTER = re.compile("[\ud800-\udfff]")


def lines_of(text: str) -> list[str]:
    """The directive lines of a text, in order, each without its `@rehearse`."""
    found = (line.strip() for line in text.split("\n"))
    return [line[len(PREFIX) :].strip() for line in found if line.split(maxsplit=1)[:1] == [PREFIX]]


def parse_line(line: str) -> list[Directive]:
    """What one line asks for. Raises DirectiveError."""
    return _Parser(line).parse()


class _Parser:
    def __init__(self, line: str) -> None:
        self.line = line
        self.at = 0

    def parse(self) -> list[Directive]:
        found = [self._directive()]
        while self.at < len(self.line):
            separator = _SEPARATOR.match(self.line, self.at)
            if separator is None:
                raise self._error(f"expected ';' before {self.line[self.at : self.at + 40].strip()!r}")
            self.at = separator.end()
            if self.at < len(self.line):
                found.append(self._directive())
        return found

    def _directive(self) -> Directive:
        name = self._word("a directive")
        if name == "say":
            return Say(self._text())
        if name == "think":
            return Think(self._text())
        if name == "tool":
            return Tool(self._word("a tool's name", _TOOL_NAME), self._object())
        if name == "overflow":
            self._skip_blank()
            return Overflow()
        return self._numeric(name)

    def _numeric(self, name: str) -> Directive:
        if name == "pace":
            return Pace(self._number(name, 0, MAX_PACE_MS) / 1000)
        if name == "stall":
            return Stall(self._number(name, 0, MAX_STALL_S))
        if name == "words":
            return Words(self._integer(name, 0, MAX_WORDS))
        if name == "cut":
            return Cut(self._integer(name, 0, MAX_WORDS))
        if name == "fail":
            return Fail(self._integer(name, 400, 599))
        raise self._error(f"{name!r} is none of {', '.join(_NAMES)}")

    def _word(self, what: str, pattern: re.Pattern[str] = _WORD) -> str:
        self._skip_blank()
        match = pattern.match(self.line, self.at)
        if match is None:
            raise self._error(f"expected {what}")
        self.at = match.end()
        return match.group()

    def _text(self) -> str:
        match = _TEXT.match(self.line, self.at)
        text = match.group().strip() if match else ""
        self.at = match.end() if match else self.at
        return _unquoted(text)

    def _object(self) -> dict[str, Any]:
        self._skip_blank()
        if self.at == len(self.line) or self.line[self.at] == ";":
            return {}
        try:
            value, self.at = _DECODER.raw_decode(self.line, self.at)
            orjson.dumps(value)  # refuses what Python reads and no client could: endless numbers, half characters
        except (ValueError, TypeError, RecursionError) as error:
            raise self._error(f"the tool's input is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise self._error("the tool's input must be a JSON object")
        self._skip_blank()
        return value

    def _number(self, name: str, low: float, high: float) -> float:
        word = self._word(f"a number after {name!r}")
        try:
            number = float(word)
        except ValueError:
            number = float("nan")
        if not low <= number <= high:
            raise self._error(f"{name} takes a number from {low} to {high}, not {word!r}")
        self._skip_blank()
        return number

    def _integer(self, name: str, low: int, high: int) -> int:
        number = self._number(name, low, high)
        if number != int(number):
            raise self._error(f"{name} takes a whole number, not {number}")
        return int(number)

    def _skip_blank(self) -> None:
        match = _BLANK.match(self.line, self.at)
        self.at = match.end() if match else self.at

    def _error(self, why: str) -> DirectiveError:
        return DirectiveError(f"{PREFIX} {self.line[:200]}: {why}")


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return _HALF_A_CHARACTER.sub("\ufffd", value) if isinstance(value, str) else text
