"""Running one command through typer: its options parsed, its errors turned into ours."""

from __future__ import annotations

from typing import Any

import typer
from typer.main import get_command

from llmhost.cli.registry import Entry
from llmhost.cli.session import Session, Spec
from llmhost.core.errors import UsageError
from llmhost.core.result import Result


def invoke(entry: Entry, spec: Spec, args: tuple[str, ...], session: Session) -> Result:
    """Parse `args` and run the command. Raises UsageError for options it does not take, and whatever the command raises."""
    command = _command(spec)
    try:
        # not command.main(): that turns Ctrl-C and a broken pipe into exit codes of its own
        with command.make_context(f"llmhost {entry.name}", list(args), obj=session) as context:
            result: Result = command.invoke(context)
    except typer.TyperException as error:
        raise UsageError(error.format_message(), hint=f"llmhost {entry.name} --help") from error
    return result


def help_of(entry: Entry, spec: Spec) -> str:
    """A command's help: what it does, its options, examples."""
    examples = "\n".join(f"  {example}" for example in spec.examples)
    if entry.name == "claude":
        return f"Usage: llmhost claude [ARGS]…\n\n{_paragraph(spec)}\n\nExamples:\n{examples}"
    command = _command(spec)
    context = command.make_context(f"llmhost {entry.name}", [], resilient_parsing=True)
    return f"{command.get_help(context).rstrip()}\n\nExamples:\n{examples}"


def session_of(ctx: typer.Context) -> Session:
    """The session a command was given."""
    session = ctx.obj
    assert isinstance(session, Session)
    return session


def _command(spec: Spec) -> Any:
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    # The help option is global and taken before; here it would only be a second one.
    app.command(context_settings={"help_option_names": []})(spec.run)
    return get_command(app)


def _paragraph(spec: Spec) -> str:
    return " ".join((spec.run.__doc__ or "").split())
