"""The command line before any command sees it: global options, accepted on either side of the command, and what is left.

A pure function of argv, so that even a usage error knows whether it has to be JSON, and so that after `claude` every byte is
claude's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

FLAGS = {
    "--json": "json",
    "--yes": "yes",
    "-y": "yes",
    "--quiet": "quiet",
    "--verbose": "verbose",
    "--no-color": "no_color",
    "--version": "version",
    "--help": "help",
    "-h": "help",
}
PASS_THROUGH = "claude"


@dataclass(frozen=True, slots=True)
class Invocation:
    """What was asked. `args` are the command's own; `problem` is a usage error found on the way, "" if there is none."""

    command: str | None = None
    args: tuple[str, ...] = ()
    fleet: str | None = None
    json: bool = False
    yes: bool = False
    quiet: bool = False
    verbose: bool = False
    no_color: bool = False
    version: bool = False
    help: bool = False
    problem: str = ""


def parse_argv(argv: Sequence[str]) -> Invocation:
    """Split argv (without the program's name). Never raises: see `Invocation.problem`, of which the first one counts."""
    found, rest = Invocation(), list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--" and found.command:
            return replace(found, args=(*found.args, word, *rest))
        if _is_global(word):
            found = _take_global(found, word, rest)
        elif found.command:
            found = replace(found, args=(*found.args, word))
        elif word == PASS_THROUGH:
            return replace(found, command=word, args=tuple(rest))
        elif word.startswith("-"):
            found = _with_problem(found, f"no such option before the command: {word}")
        else:
            found = replace(found, command=word)
    return found


def _is_global(word: str) -> bool:
    name = word.partition("=")[0]
    return name in FLAGS or name == "--fleet"


def _take_global(found: Invocation, word: str, rest: list[str]) -> Invocation:
    name, given, value = word.partition("=")
    if name in FLAGS:
        problem = f"{name} takes no value" if given else ""
        return _with_problem(replace(found, **{FLAGS[name]: True}), problem)  # type: ignore[arg-type]
    if not given:
        value = rest.pop(0) if rest and not rest[0].startswith("-") else ""
    if not value:
        return _with_problem(found, "--fleet needs a name")
    return replace(found, fleet=value)


def _with_problem(found: Invocation, problem: str) -> Invocation:
    return replace(found, problem=found.problem or problem)
