"""The argv of `claude`. Pure, apart from reading the file a user names with `--settings`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmhost.claude.user_settings import read_document, read_file

OPTION = "--settings"
MODEL = "--model"
# First words that make 2.1.330 something else than a session. Some of them (logs, stop, attach, …) are only recognised as the very first
# word: with an option before them they would become a prompt.
SUBCOMMANDS = frozenset(
    {"agents", "attach", "auth", "auto-mode", "doctor", "gateway", "import", "install", "kill", "logs", "mcp", "plugin"}
    | {"plugins", "purge", "respawn", "rm", "setup-token", "stop", "ultrareview", "update", "upgrade"}
)
# Of these, the ones that start sessions and so need to know the way.
STARTING = frozenset({"agents", "respawn", "ultrareview"})
_TELLING = frozenset({"-v", "--version", "-h", "--help"})


@dataclass(frozen=True, slots=True)
class Arguments:
    """The user's arguments, taken apart. `settings` is what they gave with `--settings` ({} = nothing)."""

    rest: tuple[str, ...]
    settings: dict[str, Any]
    readable: bool = True


def is_session(args: Sequence[str]) -> bool:
    """Whether these arguments start a conversation, as opposed to managing Claude Code or asking for its version or help."""
    return not (args and args[0] in SUBCOMMANDS) and not _TELLING.intersection(_options(args))


def needs_gateway(args: Sequence[str]) -> bool:
    """Whether a model will be asked."""
    return is_session(args) or (bool(args) and args[0] in STARTING)


def named_model(args: Sequence[str]) -> str | None:
    """What the user gives with `--model`: a name of Claude Code's own (`opus`) or of a model; the last one counts."""
    options = _options(args)
    named = None
    for word, following in zip(options, [*options[1:], ""], strict=False):
        if word == MODEL:
            named = following
        elif word.startswith(f"{MODEL}="):
            named = word.partition("=")[2]
    return named or None


def take_settings(args: Sequence[str], cwd: Path) -> Arguments:
    """Take `--settings X` out of the arguments: given twice, Claude Code heeds only the last one, so theirs has to go into ours."""
    options = _options(args)
    rest: list[str] = []
    value: str | None = None
    index = 0
    while index < len(options):
        word = options[index]
        if word == OPTION and index + 1 < len(args):
            value, index = args[index + 1], index + 1
        elif word.startswith(f"{OPTION}="):
            value = word.partition("=")[2]
        else:
            rest.append(word)
        index += 1
    if value is None:
        return Arguments(tuple(args), {})
    document = read_document(value) if value.lstrip().startswith("{") else read_file(cwd / value)
    if document is None:
        return Arguments(tuple(args), {}, readable=False)
    return Arguments((*rest, *args[index:]), document)


def build_argv(binary: str, args: Sequence[str], settings_file: Path | None) -> list[str]:
    """The argv: ours before theirs, because whatever follows the options of a user may be a prompt."""
    return [binary, *((OPTION, str(settings_file)) if settings_file else ()), *args]


def _options(args: Sequence[str]) -> list[str]:
    words = list(args)
    return words[: words.index("--")] if "--" in words else words
