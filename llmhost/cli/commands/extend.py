"""`llmhost extend 4h|none`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Spec
from llmhost.cli.views.quantities import moment
from llmhost.core.result import Result

Length = Annotated[str, typer.Argument(metavar="4h|none", help="How long from now on; none = no end.")]


def run(ctx: typer.Context, length: Length) -> Result:
    """Move the end of the lease: to so long from now, whenever it would have ended before.

    The machines are told too, because each would end itself at the old one. Ends with 5 when one of them could not be told.
    """
    from llmhost.fleet.extend import extend

    session = session_of(ctx)
    settings = session.settings()
    with session.progress() as progress:
        return extend(settings, session.paths, length, progress)


def view(data: dict[str, Any]) -> Iterable[str]:
    if not data:
        return
    ends = f"ends {moment(data['lease_ends_at'])}" if data["lease_ends_at"] else "has no end"
    before = f"; it was {moment(data['before'])}" if data["before"] else ""
    yield f"the lease of fleet {data['fleet']} {ends}{before}"
    for node in data["nodes"]:
        yield f"{node['id']} {'knows' if node['moved'] else 'keeps its own end'}"


SPEC = Spec(run, ("llmhost extend 4h", "llmhost extend 30m --fleet work", "llmhost extend none"), view)
