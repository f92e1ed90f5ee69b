"""`llmhost env`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from typing import Any

import typer

from llmhost.claude.environment import build_environment
from llmhost.cli.dispatch import session_of
from llmhost.cli.route import open_route, user_variables
from llmhost.cli.session import Spec
from llmhost.core.result import Result

BEATEN = "your Claude Code settings set {names}, which beats exported variables; `llmhost claude` overrides them."


def run(ctx: typer.Context) -> Result:
    """Print the environment that `llmhost claude` gives to claude, as lines for a POSIX shell, so that any Anthropic client can use
    the gateway.

    It holds the gateway's token. The gateway and its node must be up.
    """
    session = session_of(ctx)
    route = open_route(session, session.settings())
    from_files = user_variables({})
    environment = build_environment(route, os.environ, from_files)
    stronger = [name for name in environment.replaced if name in from_files]
    data = {"environment": environment.variables, "unset": list(environment.unset)}
    return Result(data=data, warnings=[BEATEN.format(names=", ".join(stronger))] if stronger else [])


def view(data: dict[str, Any]) -> Iterable[str]:
    yield f"unset {' '.join(data['unset'])}"
    for name, value in data["environment"].items():
        yield f"export {name}={shlex.quote(value)}"


SPEC = Spec(run, ('eval "$(llmhost env)"', "llmhost env --json"), view)
