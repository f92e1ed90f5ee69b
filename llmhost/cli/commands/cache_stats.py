"""`llmhost cache stats`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Spec
from llmhost.core.result import Result

if TYPE_CHECKING:
    from rich.console import RenderableType


def run(ctx: typer.Context) -> Result:
    """Show what the response cache of the running gateway holds, how often it answered and what that saved."""
    from llmhost.fleet.access import gateway_request

    session = session_of(ctx)
    found = gateway_request(session.settings(lenient=True), session.paths, "GET", "/internal/status")
    return Result(data={"cache": found["cache"]})


def view(data: dict[str, Any]) -> Iterable[RenderableType]:
    from llmhost.cli.views.status import cache_panel

    return (cache_panel(data["cache"]),)


SPEC = Spec(run, ("llmhost cache stats", "llmhost cache stats --json"), view)
