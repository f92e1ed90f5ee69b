"""`llmhost cost`."""

from __future__ import annotations

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Spec
from llmhost.cli.views.cost import view
from llmhost.core.result import Result


def run(ctx: typer.Context) -> Result:
    """Show what was spent, machine by machine and per request, and what the same tokens would have cost elsewhere.

    Everything is reckoned here, from agreed prices and times; the market's own bill may differ by what it charges for traffic.
    """
    from llmhost.fleet.cost import cost

    session = session_of(ctx)
    return cost(session.settings(lenient=True), session.paths)


SPEC = Spec(run, ("llmhost cost", "llmhost cost --json | jq .data.total_usd"), view)
