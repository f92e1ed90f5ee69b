"""The help texts that need no command to be imported."""

from __future__ import annotations

from llmhost import __version__
from llmhost.cli.registry import COMMANDS, GROUPS, members

_HEAD = """\
llmhost: Claude Code on a model you host yourself.

Usage: llmhost [OPTIONS] COMMAND [ARGS]…
"""
_OPTIONS = """\
Options, before or after the command (after `claude` everything belongs to claude):
  --json         Print exactly one JSON document on standard output.
  --yes, -y      Do not ask.
  --fleet NAME   The fleet meant (default: default).
  --quiet        No progress and no notes.
  --verbose      More about what is done, and where an error came from.
  --no-color     No colour, as with NO_COLOR.
  --version      Print the version.
  --help, -h     Print this, or a command's help.
"""
_EXAMPLES = """\
Examples:
  llmhost up --provider local          start a node and the gateway on this machine
  llmhost claude                       Claude Code on it
  git diff | llmhost claude -p review  one answer, from a pipe
  llmhost status --json                everything, for scripts
"""


def version() -> str:
    """The bare version number."""
    return __version__


def version_line() -> str:
    """What `--version` prints."""
    return f"llmhost {__version__}"


def overview() -> str:
    """What `llmhost --help` prints."""
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {entry.name:<{width}}{entry.summary}" for entry in COMMANDS.values()]
    return "\n".join((_HEAD, "Commands:", *lines, "", _OPTIONS, _EXAMPLES)).rstrip()


def group(name: str) -> str:
    """The help of a group of commands."""
    width = max(map(len, members(name))) + 2
    lines = [f"  {member:<{width}}{COMMANDS[f'{name} {member}'].summary}" for member in members(name)]
    return "\n".join((f"Usage: llmhost {name} COMMAND [ARGS]…", "", GROUPS[name], "", "Commands:", *lines))
