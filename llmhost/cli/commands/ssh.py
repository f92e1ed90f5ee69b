"""`llmhost ssh [NODE] [-- CMD…]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Session, Spec
from llmhost.cli.streams import to_stderr, to_stdout
from llmhost.core.errors import UsageError
from llmhost.core.result import Result

if TYPE_CHECKING:
    from llmhost.core.settings import Settings
    from llmhost.fleet.shell import Errand

Node = Annotated[
    str | None, typer.Argument(metavar="[NODE]", help="The node. [default: the only one]", show_default=False)
]
Command = Annotated[
    list[str] | None, typer.Argument(metavar="[-- CMD…]", help="A command. [default: a shell]", show_default=False)
]


def run(ctx: typer.Context, node: Node = None, command: Command = None) -> Result:
    """Open a shell on a node, or run a command there, with the pinned host key and nothing of ~/.ssh.

    One word after `--` is a command line for the shell there; several are a program and its arguments. The exit code passes through.
    """
    from llmhost.fleet.choosing import node_named
    from llmhost.fleet.shell import Errand, check_remote

    session = session_of(ctx)
    settings = session.settings()
    name, words = split(list(session.invocation.args), node, command)
    record = node_named(settings, session.paths, name)
    check_remote(record)
    return _go(session, settings, Errand(record, words))


def split(given: list[str], node: str | None, command: list[str] | None) -> tuple[str | None, tuple[str, ...]]:
    """The node and the command's words; the parser has dropped the `--` that tells `ssh -- ls` from `ssh ls`."""
    if "--" in given and given.index("--") == 0:
        return None, tuple(given[1:])
    return node, tuple(command or ())


def _go(session: Session, settings: Settings, errand: Errand) -> Result:
    from llmhost.fleet.shell import run_there, ssh_argv

    if session.renderer.json:
        if not errand.words:
            raise UsageError("a shell cannot be one JSON document.", hint=f"llmhost --json ssh {errand.node.id} -- CMD")
        done = run_there(errand, settings, session.paths)
        data = {"node": errand.node.id, "exit_code": done.code, "stdout": done.out, "stderr": done.err}
        return Result(data, exit_code=done.code)
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    argv = ssh_argv(errand, session.paths, terminal=terminal)
    if argv is not None:
        os.execv(argv[0], argv)
    done = run_there(errand, settings, session.paths)
    to_stderr(done.err)
    to_stdout(done.out)
    return Result({"node": errand.node.id}, exit_code=done.code)


def view(data: dict[str, Any]) -> Iterable[str]:
    return ()


SPEC = Spec(run, ("llmhost ssh", "llmhost ssh n1 -- nvidia-smi", "llmhost ssh n1 -- 'df -h | head'"), view)
