"""From argv to an exit code: one envelope or one text, whatever happens on the way."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmhost.cli import helptext
from llmhost.cli.argv import PASS_THROUGH, Invocation, parse_argv
from llmhost.cli.registry import GROUPS, Entry, later, resolve
from llmhost.cli.render import Renderer
from llmhost.cli.streams import OutputLost, mend
from llmhost.core.errors import Interrupted, LlmhostError, UsageError
from llmhost.core.result import Result

if TYPE_CHECKING:
    from llmhost.cli.session import Session, Spec


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code of the public contract."""
    invocation = parse_argv(sys.argv[1:] if argv is None else argv)
    renderer = Renderer(
        json=invocation.json, quiet=invocation.quiet, verbose=invocation.verbose, no_color=invocation.no_color
    )
    mend()
    try:
        return _guarded(invocation, renderer)
    except OutputLost as lost:
        return renderer.lost(lost)


def _guarded(invocation: Invocation, renderer: Renderer) -> int:
    name = _name(invocation)
    try:
        return _run(invocation, renderer)
    except LlmhostError as error:
        return renderer.error(name, error)
    except KeyboardInterrupt:
        return renderer.error(name, interrupted())
    except OutputLost:
        raise
    except Exception as error:  # noqa: BLE001 - the last line of defence: a script must get its envelope, a person one line
        renderer.trace(error)
        return renderer.error(name, _internal(error))


def interrupted() -> Interrupted:
    """What Ctrl-C ends with."""
    return Interrupted("interrupted.", hint="llmhost status shows what still runs")


def _run(invocation: Invocation, renderer: Renderer) -> int:
    if invocation.problem:
        raise UsageError(invocation.problem, hint="See: llmhost --help")
    if invocation.version:
        return _say(renderer, "version", {"version": helptext.version()}, helptext.version_line())
    if invocation.command is None:
        return _say(renderer, "help", {"help": helptext.overview()}, helptext.overview())
    if invocation.help and invocation.command in GROUPS and not invocation.args:
        text = helptext.group(invocation.command)
        return _say(renderer, "help", {"help": text}, text)
    return _command(invocation, renderer)


def _command(invocation: Invocation, renderer: Renderer) -> int:
    from llmhost.cli.session import Session

    entry, args = resolve(invocation.command or "", invocation.args)
    spec: Spec = importlib.import_module(entry.module).SPEC
    if invocation.help:
        from llmhost.cli.dispatch import help_of

        text = help_of(entry, spec)
        return _say(renderer, "help", {"help": text}, text)
    session = Session(invocation, renderer)
    result = spec.run(session, args) if entry.name == PASS_THROUGH else _parsed(entry, spec, args, session)
    view = spec.brief if renderer.quiet and spec.brief else spec.view
    return renderer.result(entry.name, result, view(result.data) if not renderer.json else ())


def _parsed(entry: Entry, spec: Spec, args: tuple[str, ...], session: Session) -> Result:
    from llmhost.cli.dispatch import invoke

    for word in args:
        if word.partition("=")[0] in spec.later_options:
            raise later(f"`llmhost {entry.name} {word.partition('=')[0]}`")
    return invoke(entry, spec, args, session)


def _say(renderer: Renderer, command: str, data: dict[str, str], text: str) -> int:
    return renderer.result(command, Result(data=dict(data)), (text,))


def _name(invocation: Invocation) -> str:
    if invocation.command in GROUPS and invocation.args and not invocation.args[0].startswith("-"):
        return f"{invocation.command} {invocation.args[0]}"
    return invocation.command or "help"


def _internal(error: Exception) -> LlmhostError:
    return LlmhostError(
        f"unexpected {type(error).__name__}: {error}",
        hint="Run it again with --verbose to see where, and report it as a bug.",
        code="internal",
    )
