"""`llmhost down`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Spec
from llmhost.cli.views.quantities import dollars
from llmhost.core.errors import UsageError
from llmhost.core.result import Result

Nodes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NODE]…", help="Only these nodes. [default: the whole fleet]", show_default=False),
]
Everything = Annotated[bool, typer.Option("--all", help="Every fleet of this installation.")]


def run(ctx: typer.Context, nodes: Nodes = None, everything: Everything = False) -> Result:
    """Stop the nodes and the gateway, and make sure that nothing runs or bills any more.

    Requests that run get a moment to end.
    """
    from llmhost.fleet.down import down

    if nodes and everything:
        raise UsageError("--all and names of nodes exclude each other.", hint="Give one of them.")
    session = session_of(ctx)
    settings = session.settings(lenient=True)
    with session.progress() as progress:
        return down(settings, session.paths, settings.fleet, list(nodes or ()), everything, progress)


def view(data: dict[str, Any]) -> Iterable[str]:
    destroyed = data.get("destroyed") or []
    if not destroyed:
        yield "nothing was running"
    for node in destroyed:
        verified = "" if node["verified"] else ", not verified"
        yield f"{node['id']} is gone, spent {dollars(node['spent_usd'])}{verified}"
    for node in data.get("still_billing") or ():
        yield f"STILL BILLING: {node['id'] if isinstance(node, dict) else node}"


SPEC = Spec(run, ("llmhost down", "llmhost down --all", "llmhost down n1"), view)
