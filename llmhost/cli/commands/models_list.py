"""`llmhost models list`."""

from __future__ import annotations

from typing import Annotated

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Spec
from llmhost.cli.views.models import list_view
from llmhost.core.result import Result

Nodes = Annotated[
    list[str] | None, typer.Argument(metavar="[NODE]…", help="Only these nodes'. [default: all]", show_default=False)
]


def run(ctx: typer.Context, nodes: Nodes = None) -> Result:
    """Show the models that the nodes have: size, whether loaded and with which window, and which one is served when none is named.

    Any of them can be asked for by its name; it is loaded when it is asked for.
    """
    from llmhost.fleet.models import ModelDesk, list_models

    session = session_of(ctx)
    settings = session.settings(lenient=True)
    with session.progress() as progress:
        return list_models(ModelDesk(settings, session.paths, progress), nodes or ())


SPEC = Spec(run, ("llmhost models list", "llmhost models list n1 --json"), list_view)
