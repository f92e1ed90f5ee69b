"""`llmhost claude ARGS…`: this process becomes `claude`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from llmhost.claude.command import Arguments, build_argv, is_session, named_model, needs_gateway, take_settings
from llmhost.claude.environment import ClaudeEnvironment, Route, build_environment
from llmhost.claude.launch import become, write_settings
from llmhost.claude.locate import find_claude
from llmhost.cli.route import open_route, user_variables, warn_of_managed
from llmhost.cli.session import Session, Spec


def run(session: Session, args: Sequence[str]) -> NoReturn:
    """Run Claude Code against the gateway. Everything after `claude` goes to claude, byte for byte; standard input, signals and the
    exit code pass through. The gateway and its node must be up: `llmhost up` starts them."""
    settings = session.settings()
    binary = str(find_claude(settings.claude_bin))
    if not needs_gateway(args):
        become(build_argv(binary, args, None), os.environ)
    launch(session, binary, args, open_route(session, settings, named_model(args)))


def launch(session: Session, binary: str, args: Sequence[str], route: Route) -> NoReturn:
    """Become a `claude` that goes this way."""
    taken = take_settings(args, Path()) if is_session(args) else Arguments(tuple(args), {}, readable=False)
    environment = build_environment(route, os.environ, user_variables(taken.settings))
    _tell(session, environment)
    file = None
    if taken.readable:  # what cannot be read is for claude to complain about, so it goes there untouched
        file = write_settings(session.paths.state_dir / "claude", environment.session_settings(taken.settings))
    become(build_argv(binary, taken.rest, file), environment.applied_to(os.environ))


def _tell(session: Session, environment: ClaudeEnvironment) -> None:
    warn_of_managed(session)
    if environment.replaced:
        names = ", ".join(environment.replaced)
        session.renderer.warning(f"for this session llmhost overrides what you have set for Claude Code: {names}.")
    for name in environment.kept:
        session.renderer.detail(f"{name} is left as you have set it.")


SPEC = Spec(
    run,
    (
        "llmhost claude",
        "llmhost claude --model qwen2.5-coder:7b",
        'llmhost claude -p "why does this test fail?" --allowedTools Bash',
        "git diff | llmhost claude -p review",
    ),
)
