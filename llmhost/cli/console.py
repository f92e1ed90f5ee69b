"""rich's consoles as this program needs them. Importing this costs the import of rich."""

from __future__ import annotations

import io
from typing import Any, TextIO, cast

from rich.console import Console, RenderableType

# Tables in a pipe or a log keep their columns; a terminal has its own width.
PIPE_WIDTH = 120


class HonestConsole(Console):
    """A console that leaves it to us what a gone reader means; rich's own ends the process with 1."""

    def on_broken_pipe(self) -> None:
        raise


def open_console(file: TextIO, *, colored: bool) -> Console:
    """A console on a stream."""
    width = None if file.isatty() else PIPE_WIDTH
    return HonestConsole(file=file, no_color=not colored, highlight=False, width=width, emoji=False, soft_wrap=False)


def rendered(target: Console, item: RenderableType) -> str:
    """The text, with its colours, that the console would print. Nothing is written to it: rich's own capturing does, an empty text."""
    paper = Console(
        file=io.StringIO(),
        width=target.width,
        no_color=target.no_color,
        color_system=cast(Any, target.color_system),
        force_terminal=target.is_terminal,
        highlight=False,
        emoji=False,
    )
    with paper.capture() as capture:
        paper.print(item)
    return capture.get()
