"""The one place that prints. Text for people, or exactly one JSON envelope; the answer to standard output, all else to standard error."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from llmhost.core.errors import Interrupted, LlmhostError, UsageError
from llmhost.core.result import Result

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SCHEMA = "llmhost/1"
# Tables in a pipe or a log keep their columns; a terminal has its own width.
PIPE_WIDTH = 120
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

    def result(self, command: str, result: Result, shown: Iterable[RenderableType]) -> int:
        """Print what a command returned; its exit code. `shown` is made lazily and only in text mode."""
        if self.json:
            _write(sys.stdout, json.dumps(envelope(command, result), default=str))
            return result.exit_code
        self.answer(shown)
        for warning in result.warnings:
            self.warning(warning)
        for error in result.errors:
            self._failure(error)
        return result.exit_code

    def error(self, command: str, error: LlmhostError) -> int:
        """Print an error that ended a command; its exit code."""
        return self.result(command, Result(errors=[error.as_dict()], exit_code=error.exit_code), ())

    def answer(self, shown: Iterable[RenderableType]) -> None:
        """Text mode: the answer itself, to standard output."""
        for item in shown:
            if isinstance(item, str):
                _write(sys.stdout, item)
            else:
                self.console(sys.stdout).print(item)
                sys.stdout.flush()

    def line(self, item: dict[str, Any], text: str) -> None:
        """One element of an endless answer: an object a line, or its text."""
        _write(sys.stdout, json.dumps(item, default=str) if self.json else text)

    def explain(self, shown: Iterable[RenderableType]) -> None:
        """Text that goes with an answer and is none (a plan, what to do next): standard error, none with --quiet or --json."""
        if self.quiet or self.json:
            return
        for item in shown:
            if isinstance(item, str):
                _write(sys.stderr, item)
            else:
                self.console(sys.stderr).print(item)

    def warning(self, text: str) -> None:
        """One line about something that is not as it should be."""
        _write(sys.stderr, f"{self._paint(_YELLOW, 'warning:')} {text}")

    def detail(self, text: str) -> None:
        """One line for `--verbose`."""
        if self.verbose:
            _write(sys.stderr, text)

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
        from rich.console import Console

        plain = not self.colored(file)
        width = None if file.isatty() else PIPE_WIDTH
        return Console(file=file, no_color=plain, highlight=False, width=width, emoji=False, soft_wrap=False)

    def colored(self, file: TextIO) -> bool:
        """Whether colour is wanted: a terminal, no --no-color, no NO_COLOR."""
        return file.isatty() and not self.no_color and not os.environ.get("NO_COLOR")

    def _failure(self, error: dict[str, str]) -> None:
        mark = "" if error["code"] == Interrupted.default_code else f"{self._paint(_RED, 'error:')} "
        _write(sys.stderr, f"{mark}{error['message']}")
        if error["hint"]:
            _write(sys.stderr, f"  → {error['hint']}")

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self.colored(sys.stderr) else text


def _write(stream: TextIO, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()


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
