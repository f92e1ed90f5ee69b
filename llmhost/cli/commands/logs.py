"""`llmhost logs`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Session, Spec
from llmhost.cli.views.logs import line_text
from llmhost.core.errors import Interrupted
from llmhost.core.result import Result

if TYPE_CHECKING:
    from llmhost.core.settings import Settings
    from llmhost.fleet.remote_logs import LogWish

Node = Annotated[
    str | None, typer.Argument(metavar="[NODE]", help="Only this node's. [default: all]", show_default=False)
]
Source = Annotated[
    str | None, typer.Option("--source", help="Only from here: gateway, proxy, ollama, tunnel or onstart.")
]
Follow = Annotated[bool, typer.Option("--follow", help="Go on with every new line, until Ctrl-C.")]
Lines = Annotated[int, typer.Option("--lines", min=0, help="How many of the last lines.")]


def run(
    ctx: typer.Context, node: Node = None, source: Source = None, follow: Follow = False, lines: Lines = 100
) -> Result:
    """Show what the gateway, the nodes' proxies, Ollama and the links wrote, merged by time; other machines are asked over SSH.

    Requests and answers are never in it.
    """
    from llmhost.fleet.remote_logs import LogWish, read_fleet_logs

    session = session_of(ctx)
    settings, wish = session.settings(lenient=True), LogWish(node, source, lines)
    if follow:
        _follow(session, settings, wish)
    found, warnings = read_fleet_logs(settings, session.paths, wish)
    return Result(data={"lines": [line.as_dict() for line in found]}, warnings=warnings)


def _follow(session: Session, settings: Settings, wish: LogWish) -> None:
    from llmhost.fleet.remote_logs import follow_fleet_logs

    try:
        for line in follow_fleet_logs(settings, session.paths, wish, session.renderer.warning):
            session.renderer.line(line.as_dict(), line_text(line.as_dict()))
    except KeyboardInterrupt:
        sys.exit(Interrupted.exit_code)  # the way to end it, so nothing more is said


def view(data: dict[str, Any]) -> Iterable[str]:
    return map(line_text, data["lines"]) if data["lines"] else ("nothing was logged",)


SPEC = Spec(run, ("llmhost logs", "llmhost logs --source gateway --follow", "llmhost logs n1 --lines 20"), view)
