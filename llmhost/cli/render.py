"""The one place that prints. Text for people, or exactly one JSON envelope; the answer to standard output, all else to standard error."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TextIO

from llmhost.cli.streams import OutputLost, to_stderr, to_stdout
from llmhost.core.errors import Interrupted, LlmhostError, UsageError
from llmhost.core.result import Result

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SCHEMA = "llmhost/1"
_RED, _YELLOW, _PLAIN = "\x1b[1;31m", "\x1b[33m", "\x1b[0m"


def envelope(command: str, result: Result) -> dict[str, Any]:
    """The JSON document of the public contract."""
    return {
        "schema": SCHEMA,
        "command": command,
        "ok": not result.errors and result.exit_code == 0,
        "data": result.data,
        "warnings": result.warnings,
        "errors": result.errors,
    }


@dataclass(frozen=True, slots=True)
class Renderer:
    """How this run prints. Every method flushes, so that output and progress keep their order."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    _warned: list[str] = field(default_factory=list, init=False)

    def result(self, command: str, result: Result, shown: Iterable[RenderableType]) -> int:
        """Print what a command returned; its exit code. `shown` is made lazily and only in text mode.

        Whether anybody reads the answer changes nothing about the exit code, an answer that could not be written does.
        """
        code = result.exit_code
        try:
            self._tell(command, result, shown)
        except OutputLost as lost:
            code = self.lost(lost) or code
        if not self.json:
            for warning in result.warnings:
                self.warning(warning)
            for error in result.errors:
                self._failure(error)
        return code

    def _tell(self, command: str, result: Result, shown: Iterable[RenderableType]) -> None:
        if self.json:
            warnings = list(dict.fromkeys((*self._warned, *result.warnings)))
            _answer(json.dumps(envelope(command, replace(result, warnings=warnings)), default=str))
        else:
            self.answer(shown)

    def lost(self, lost: OutputLost) -> int:
        """Say that standard output failed, unless its reader only has seen enough; the exit code of that."""
        if lost.reader_gone:
            return 0
        _note(f"{self._paint(_RED, 'error:')} {lost}")
        return LlmhostError.exit_code

    def error(self, command: str, error: LlmhostError) -> int:
        """Print an error that ended a command; its exit code."""
        errors = [one.as_dict() for one in error.parts()]
        return self.result(command, Result(errors=errors, exit_code=error.exit_code), ())

    def answer(self, shown: Iterable[RenderableType]) -> None:
        """Text mode: the answer itself, to standard output."""
        for item in shown:
            to_stdout(self._rendered(item, sys.stdout))

    def line(self, item: dict[str, Any], text: str) -> None:
        """One element of an endless answer: an object a line, or its text."""
        _answer(json.dumps(item, default=str) if self.json else text)

    def explain(self, shown: Iterable[RenderableType]) -> None:
        """Text that goes with an answer and is none (a plan, what to do next): standard error, none with --quiet or --json."""
        if self.quiet or self.json:
            return
        for item in shown:
            to_stderr(self._rendered(item, sys.stderr))

    def warning(self, text: str) -> None:
        """One line about something that is not as it should be; the envelope has it, too."""
        self._warned.append(text)
        _note(f"{self._paint(_YELLOW, 'warning:')} {text}")

    def detail(self, text: str) -> None:
        """One line for `--verbose`."""
        if self.verbose:
            _note(text)

    def trace(self, error: BaseException) -> None:
        """The whole story of an unexpected error, for `--verbose`."""
        self.detail("".join(traceback.format_exception(error)).rstrip())

    def confirm(self, question: str) -> None:
        """Ask before something happens. Raises UsageError (`not_confirmed`) without a terminal, with --json, or on anything but yes."""
        if self.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(
                "this needs a yes, and there is no terminal to ask on.", hint="Add --yes.", code="not_confirmed"
            )
        if self.ask(f"{question} [y/N]").lower() not in ("y", "yes"):
            raise UsageError("not confirmed; nothing was changed.", code="not_confirmed")

    def ask(self, question: str, default: str = "", *, hidden: bool = False) -> str:
        """A line typed by the user, or the default. Raises UsageError at the end of input."""
        prompt = f"{question}{f' [{default}]' if default else ''} "
        sys.stderr.flush()
        try:
            return (_read_hidden(prompt) if hidden else _read_line(prompt)).strip() or default
        except EOFError:
            raise UsageError("the input ended before the answer.", code="not_confirmed") from None

    def console(self, file: TextIO) -> Console:
        """A rich console on a stream, without colour where nobody sees it."""
        from llmhost.cli.console import open_console

        return open_console(file, colored=self.colored(file))

    def colored(self, file: TextIO) -> bool:
        """Whether colour is wanted: a terminal, no --no-color, no NO_COLOR."""
        return file.isatty() and not self.no_color and not os.environ.get("NO_COLOR")

    def _rendered(self, item: RenderableType, file: TextIO) -> str:
        if isinstance(item, str):
            return item + "\n"
        from llmhost.cli.console import rendered

        return rendered(self.console(file), item)

    def _failure(self, error: dict[str, str]) -> None:
        mark = "" if error["code"] == Interrupted.default_code else f"{self._paint(_RED, 'error:')} "
        # What comes later is said in one line, whoever raises it.
        joint = "  →" if error["code"] == "later" else "\n  →"
        hint = f"{joint} {error['hint']}" if error["hint"] else ""
        _note(f"{mark}{error['message']}{hint}")

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self.colored(sys.stderr) else text


def _answer(line: str) -> None:
    to_stdout(line + "\n")


def _note(line: str) -> None:
    to_stderr(line + "\n")


def _read_line(prompt: str) -> str:
    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _read_hidden(prompt: str) -> str:
    from getpass import getpass

    return getpass(prompt, stream=sys.stderr)
