"""`llmhost models rm`."""

from __future__ import annotations

from typing import Annotated

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Spec
from llmhost.cli.views.models import rm_view
from llmhost.core.result import Result

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Its name, as `models list` shows it.", show_default=False)]
Nodes = Annotated[
    list[str] | None, typer.Argument(metavar="[NODE]…", help="Only on these nodes. [default: all]", show_default=False)
]


def run(ctx: typer.Context, model: Model, nodes: Nodes = None) -> Result:
    """Delete a model from the disks of the nodes. The one that a node serves is refused: `llmhost up --model OTHER` comes first."""
    from llmhost.fleet.models import ModelDesk, remove_model

    session = session_of(ctx)
    settings = session.settings()
    with session.progress() as progress:
        return remove_model(ModelDesk(settings, session.paths, progress), model, nodes or ())


SPEC = Spec(run, ("llmhost models rm qwen2.5-coder:7b", "llmhost models rm qwen2.5-coder:7b n1"), rm_view)
