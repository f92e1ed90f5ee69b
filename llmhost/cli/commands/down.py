"""`llmhost down`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Spec
from llmhost.cli.views.quantities import dollars, duration
from llmhost.core.errors import UsageError
from llmhost.core.result import Result

Nodes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NODE]…", help="Only these nodes. [default: the whole fleet]", show_default=False),
]
Everything = Annotated[bool, typer.Option("--all", help="Every fleet of this installation.")]


Force = Annotated[
    bool,
    typer.Option("--force", help="Forget nodes on machines of yours that cannot be reached, too (never rented ones)."),
]


def run(ctx: typer.Context, nodes: Nodes = None, everything: Everything = False, force: Force = False) -> Result:
    """Stop the nodes and the gateway, and make sure that nothing runs or bills any more.

    Requests that run get a moment to end. What was rented is destroyed until the market lists it no more, and the bill is shown. What was
    put on a machine of yours is removed from it; one that cannot be reached keeps its node on the books, and the next `down` tries again.
    """
    from llmhost.fleet.down import Ending, down

    if nodes and everything:
        raise UsageError("--all and names of nodes exclude each other.", hint="Give one of them.")
    session = session_of(ctx)
    settings = session.settings(lenient=True)
    with session.progress() as progress:
        ending = Ending(settings.fleet, tuple(nodes or ()), everything, force)
        return down(settings, session.paths, ending, progress)


def view(data: dict[str, Any]) -> Iterable[str]:
    destroyed = data.get("destroyed") or []
    if not destroyed:
        yield "nothing was running"
    for node in destroyed:
        state = "is gone" if node["verified"] else "was left, its end is not verified"
        yield f"{node['id']}{_machine(node)} {state}, spent {dollars(node['spent_usd'])}{_hours(node)}"
        yield from (f"  {sentence}" for sentence in node.get("kept") or ())
    bill = [node["spent_usd"] for node in destroyed if node.get("label")]
    if len(bill) > 1:
        yield f"in all {dollars(sum(bill))}"
    for node in data.get("still_billing") or ():
        number = node["instance_id"] or f"of unknown id, label {node['label']}"
        yield f"STILL BILLING: instance {number} ({node['node']}), ${node['price_usd_per_hour']:.3f}/h"


def _machine(node: dict[str, Any]) -> str:
    return f" (instance {node['instance_id']}, {node['gpu']})" if node["instance_id"] else ""


def _hours(node: dict[str, Any]) -> str:
    if node.get("hours") is None:
        return ""
    return f" in {duration(node['hours'] * 3600)} at ${node['price_usd_per_hour']:.3f}/h"


SPEC = Spec(run, ("llmhost down", "llmhost down n1", "llmhost down --all --force"), view)
