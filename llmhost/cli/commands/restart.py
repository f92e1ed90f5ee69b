"""`llmhost restart NODE`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Spec
from llmhost.core.result import Result

Node = Annotated[
    str | None, typer.Argument(metavar="[NODE]", help="The node. [default: the only one]", show_default=False)
]
Ollama = Annotated[bool, typer.Option("--ollama", help="Its Ollama, where llmhost runs it.")]
Proxy = Annotated[bool, typer.Option("--proxy", help="Its proxy.")]


def run(ctx: typer.Context, node: Node = None, ollama: Ollama = False, proxy: Proxy = False) -> Result:
    """Restart what llmhost runs on a node, or one service of it, and wait until it answers again.

    Requests in flight may finish first; new ones wait, or go to another node.
    """
    from llmhost.fleet.choosing import node_named
    from llmhost.fleet.restart import restart_node

    session = session_of(ctx)
    settings = session.settings()
    record = node_named(settings, session.paths, node)
    services = [name for name, given in (("ollama", ollama), ("proxy", proxy)) if given]
    with session.progress() as progress:
        return restart_node(record, services, settings, session.paths, progress)


def view(data: dict[str, Any]) -> Iterable[str]:
    node = data["node"]
    yield f"{' and '.join(data['restarted'])} of {node['id']} restarted; {node['id']} is {node['state']}"


SPEC = Spec(run, ("llmhost restart", "llmhost restart n1 --proxy", "llmhost restart n1 --ollama"), view)
