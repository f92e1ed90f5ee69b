"""`llmhost config show`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Spec
from llmhost.core.result import Result

if TYPE_CHECKING:
    from rich.console import RenderableType


def run(ctx: typer.Context) -> Result:
    """Show every setting: its value (secrets masked), where the value comes from, and its name in the environment."""
    session = session_of(ctx)
    settings = session.settings()
    entries = [asdict(entry) for entry in settings.entries()]
    return Result(data={"file": str(session.paths.config_file), "settings": entries})


def view(data: dict[str, Any]) -> Iterable[RenderableType]:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("setting", "value", "source", "environment"):
        table.add_column(title, overflow="fold")
    for entry in data["settings"]:
        value = "" if entry["value"] is None else str(entry["value"])
        table.add_row(entry["key"], value, entry["source"], ", ".join(entry["environment"]))
    return (f"file: {data['file']}", table)


SPEC = Spec(
    run, ("llmhost config show", "llmhost config show --json", "REDIS_HOST=redis.example llmhost config show"), view
)
