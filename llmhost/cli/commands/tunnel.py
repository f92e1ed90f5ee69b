"""`llmhost tunnel`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Session, Spec
from llmhost.cli.views.tunnel import change_text, repin_view, view
from llmhost.core.errors import Interrupted, UsageError
from llmhost.core.result import Result

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llmhost.core.settings import Settings

Foreground = Annotated[bool, typer.Option("--foreground", help="Stay, and show every change, until Ctrl-C.")]
Stop = Annotated[bool, typer.Option("--stop", help="Close the links and the gateway; nodes elsewhere run on.")]
Status = Annotated[bool, typer.Option("--status", help="Show links and gateway, and open nothing.")]
Port = Annotated[int | None, typer.Option("--port", help="The gateway's port from now on.")]
Repin = Annotated[
    str | None, typer.Option("--repin", metavar="NODE", help="Trust the host key that this node's machine shows now.")
]


def run(
    ctx: typer.Context,
    foreground: Foreground = False,
    stop: Stop = False,
    status: Status = False,
    port: Port = None,
    repin: Repin = None,
) -> Result:
    """Open the links to the nodes and the gateway in the background. Doing it twice changes nothing; links that are down are tried at once.

    A link that cannot be opened is an error that says why.
    """
    chosen = [name for name, given in _given(foreground, stop, status, repin).items() if given]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} exclude each other.", hint="llmhost tunnel --help")
    session = session_of(ctx)
    settings = session.settings(gateway_port=port)
    if repin is not None:
        return _repin(session, settings, repin)
    return _stay(session, settings, port) if foreground else _once(session, settings, port, stop, status)


def _given(foreground: bool, stop: bool, status: bool, repin: str | None) -> dict[str, bool]:
    return {"--foreground": foreground, "--stop": stop, "--status": status, "--repin": repin is not None}


def _once(session: Session, settings: Settings, port: int | None, stop: bool, status: bool) -> Result:
    from llmhost.fleet.tunnel import close_tunnel, look_at_tunnel, open_tunnel

    if status:
        return look_at_tunnel(settings, session.paths)
    with session.progress() as progress:
        if stop:
            return close_tunnel(settings, session.paths, progress)
        return open_tunnel(settings, session.paths, port, progress)


def _stay(session: Session, settings: Settings, port: int | None) -> Result:
    """What was not open before is closed again at the end."""
    from llmhost.fleet.tunnel import close_tunnel, open_tunnel, watch_tunnel
    from llmhost.supervisor.launch import is_running

    was_open = is_running(session.paths)
    try:
        with session.progress() as progress:
            open_tunnel(settings, session.paths, port, progress)
        for change in watch_tunnel(settings, session.paths):
            session.renderer.line(change, change_text(change))
    except KeyboardInterrupt:
        if not was_open:
            with session.progress() as progress:
                close_tunnel(settings, session.paths, progress)
        sys.exit(Interrupted.exit_code)  # the way to end it, so nothing more is said
    return Result({"gateway": None, "tunnels": []}, warnings=["the tunnel was closed by another command."])


def _repin(session: Session, settings: Settings, node: str) -> Result:
    from llmhost.fleet.repin import look_at_key, trust

    change = look_at_key(settings, session.paths, node)
    if not change.same:
        session.renderer.explain(repin_view(change.as_dict()))
        if not session.invocation.yes:
            session.renderer.confirm("Trust the new key?")
    trust(change, session.paths)
    return Result({"repinned": {**change.as_dict(), "changed": not change.same}})


def shown(data: dict[str, Any]) -> Iterable[RenderableType]:
    return view(data)


SPEC = Spec(run, ("llmhost tunnel", "llmhost tunnel --status", "llmhost tunnel --repin n1"), shown)
