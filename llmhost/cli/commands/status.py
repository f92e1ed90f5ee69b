"""`llmhost status`."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Session, Spec
from llmhost.cli.streams import answering
from llmhost.cli.views.status import view
from llmhost.core.errors import Interrupted, UsageError
from llmhost.core.result import Result

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

Refresh = Annotated[bool, typer.Option("--refresh", help="Ask the nodes and the provider first.")]
Watch = Annotated[bool, typer.Option("--watch", help="Show it again every two seconds, until Ctrl-C.")]
WATCH_EVERY_S = 2.0


def run(ctx: typer.Context, refresh: Refresh = False, watch: Watch = False) -> Result:
    """Show nodes, gateway, cache and advice.

    Prints what is known, without waiting for the network.
    """
    session = session_of(ctx)
    if watch and session.renderer.json:
        raise UsageError("--watch has no end, so it cannot be one JSON document.", hint="llmhost status --json")
    settings = session.settings(lenient=True)
    if watch:
        _watch(session, settings, refresh)
    return _status(session, settings, refresh)


def _status(session: Session, settings: Settings, refresh: bool) -> Result:
    from llmhost.fleet.status import status

    return status(settings, session.paths, settings.fleet, refresh=refresh)


def _watch(session: Session, settings: Settings, refresh: bool) -> None:
    from rich.console import Group
    from rich.live import Live

    def picture() -> Group:
        return Group(*view(_status(session, settings, refresh).data))

    screen = session.renderer.console(sys.stdout)
    with answering(), Live(picture(), console=screen, auto_refresh=False, screen=screen.is_terminal) as live:
        try:
            while True:
                time.sleep(WATCH_EVERY_S)
                live.update(picture(), refresh=True)
        except KeyboardInterrupt:
            sys.exit(Interrupted.exit_code)  # the way to end it, so nothing more is said


SPEC = Spec(run, ("llmhost status", "llmhost status --watch", "llmhost status --json | jq .data.gateway.url"), view)
