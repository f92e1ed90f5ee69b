"""`llmhost models pull`."""

from __future__ import annotations

from typing import Annotated

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Spec
from llmhost.cli.views.models import pull_view
from llmhost.core.result import Result

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Its name in Ollama's library.", show_default=False)]
Nodes = Annotated[
    list[str] | None, typer.Argument(metavar="[NODE]…", help="Only on these nodes. [default: all]", show_default=False)
]


def run(ctx: typer.Context, model: Model, nodes: Nodes = None) -> Result:
    """Fetch a model on the nodes, several at once, with progress; afterwards it can be asked for by its name.

    Refused before the download where the disk or the graphics card cannot hold it. What an interrupted download has fetched is kept.
    """
    from llmhost.fleet.models import ModelDesk, pull_model

    session = session_of(ctx)
    settings = session.settings()
    with session.progress() as progress:
        return pull_model(ModelDesk(settings, session.paths, progress), model, nodes or ())


SPEC = Spec(run, ("llmhost models pull qwen2.5-coder:7b", "llmhost models pull qwen2.5-coder:7b n1"), pull_view)
