"""`llmhost doctor`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Spec
from llmhost.core.result import Result

if TYPE_CHECKING:
    from rich.console import RenderableType

MARKS = {"ok": "✓", "warn": "!", "failed": "✗"}
STYLES = {"ok": "green", "warn": "yellow", "failed": "red"}


def run(ctx: typer.Context) -> Result:
    """Check every prerequisite and every running part, and say for each failure what to type next.

    Ends with 1 when a check failed; a warning is no failure.
    """
    from llmhost.fleet.doctor import doctor

    session = session_of(ctx)
    return doctor(session.settings, session.paths)


def view(data: dict[str, Any]) -> Iterable[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column()
    table.add_column()
    table.add_column(overflow="fold")
    for check in data["checks"]:
        state = check["state"]
        command = f"\n→ {check['command']}" if check["command"] else ""
        table.add_row(Text(MARKS[state], style=STYLES[state]), check["name"], Text(f"{check['detail']}{command}"))
    return (table, summary([check["state"] for check in data["checks"]]))


def summary(states: list[str]) -> str:
    """The last line."""
    failed, warned = states.count("failed"), states.count("warn")
    if failed:
        return f"{failed} of {len(states)} checks failed"
    return f"nothing failed, {warned} to look at" if warned else "all is well"


SPEC = Spec(run, ("llmhost doctor", "llmhost doctor --json | jq '.data.checks[] | select(.state != \"ok\")'"), view)
