"""Which commands there are, told without importing any of them: the top-level help must cost nothing."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from llmhost.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Entry:
    """A command: `module` holds its `SPEC`; `summary` is its line in the help."""

    name: str
    module: str
    summary: str


def _entry(name: str, module: str, summary: str) -> tuple[str, Entry]:
    return name, Entry(name, f"llmhost.cli.commands.{module}", summary)


COMMANDS: dict[str, Entry] = dict(
    (
        _entry("up", "up", "Start a node and the gateway in front of it; changes nothing that already fits."),
        _entry(
            "offers", "offers", "Show the machines for rent that `up` would choose from, and what each really costs."
        ),
        _entry("claude", "claude", "Run Claude Code against the gateway; everything after `claude` is claude's own."),
        _entry("status", "status", "Show nodes, gateway, cache and advice."),
        _entry("tunnel", "tunnel", "Open the links to the nodes and the gateway; close them, or look at them."),
        _entry("down", "down", "Stop the nodes and the gateway."),
        _entry("extend", "extend", "Move the end of the lease of what is rented."),
        _entry("cost", "cost", "Show what was spent, per machine and per request."),
        _entry("gc", "gc", "Find and end machines of this installation that no fleet knows of."),
        _entry("ssh", "ssh", "Open a shell on a node, or run a command there."),
        _entry("restart", "restart", "Restart a node's proxy or its Ollama."),
        _entry("doctor", "doctor", "Check every prerequisite and every running part."),
        _entry("logs", "logs", "Show what the gateway, the nodes and their servers wrote."),
        _entry("env", "env", "Print the environment of `claude` as export lines, for any Anthropic client."),
        _entry("proxy", "proxy", "Run the Anthropic-compatible server in the foreground."),
        _entry("cache stats", "cache_stats", "Show what the response cache holds and saved."),
        _entry("cache clear", "cache_clear", "Delete cached answers."),
        _entry("models list", "models_list", "Show the models that the nodes have."),
        _entry("models pull", "models_pull", "Fetch a model on the nodes."),
        _entry("models rm", "models_rm", "Delete a model from the nodes."),
        _entry("config show", "config_show", "Show every setting, its value and where it comes from."),
        _entry("config path", "config_path", "Print the path of the configuration file."),
        _entry("config init", "config_init", "Write the configuration file, by questions or from options."),
    )
)

# Commands of the public contract that this release does not have yet.
LATER = (
    "cache explain",
    "backend",
    "scale",
    "export",
    "dashboard",
)
GROUPS = {"cache": "The response cache.", "models": "The models on the nodes.", "config": "The configuration."}


def later(what: str) -> UsageError:
    """The one-line answer to something that a later release brings."""
    return UsageError(
        f"{what} comes in a later release; this one runs nodes on this machine and over SSH.",
        hint="llmhost up --provider local",
        code="later",
    )


def resolve(command: str, args: tuple[str, ...]) -> tuple[Entry, tuple[str, ...]]:
    """The command meant, and its own arguments. Raises UsageError for one that is unknown, incomplete or not here yet."""
    name, rest = command, args
    if command in GROUPS:
        if not args or args[0].startswith("-"):
            raise UsageError(f"{command}: say which: {', '.join(members(command))}.", hint=f"llmhost {command} --help")
        name, rest = f"{command} {args[0]}", args[1:]
    if name in LATER:
        raise later(f"`llmhost {name}`")
    if name not in COMMANDS:
        raise _unknown(name)
    return COMMANDS[name], rest


def members(group: str) -> list[str]:
    """The second words of a group's commands."""
    return [name.split()[1] for name in COMMANDS if name.startswith(f"{group} ")]


def _unknown(name: str) -> UsageError:
    near = difflib.get_close_matches(name, [*COMMANDS, *GROUPS], n=1, cutoff=0.5)
    hint = f"Did you mean `llmhost {near[0]}`?" if near else "See the commands with: llmhost --help"
    return UsageError(f"no such command: {name}", hint=hint)
