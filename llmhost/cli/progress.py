"""Progress on standard error: live on a terminal, a line per phase elsewhere, nothing with --quiet."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from llmhost.cli.render import Renderer
from llmhost.cli.streams import to_stderr
from llmhost.core.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

# A transfer without a terminal tells its state this often, in seconds, so that a log shows that it moves.
REPORT_EVERY_S = 15.0
MIB = 1024 * 1024


@contextmanager
def open_progress(renderer: Renderer) -> Iterator[Progress]:
    """The kind of progress that fits where standard error goes."""
    if renderer.quiet:
        yield SilentProgress()
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _live(renderer) as progress:
            yield progress
    else:
        yield LineProgress(sys.stderr)


class LineProgress:
    """A line for each phase; a transfer is told at its start and every REPORT_EVERY_S."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._told: tuple[str, float] = ("", 0.0)

    def phase(self, code: str, text: str) -> None:
        self._line(f"• {text}")

    def transfer(self, code: str, text: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if self._told[0] == text and now - self._told[1] < REPORT_EVERY_S:
            return
        self._told = (text, now)
        self._line(f"• {text} {amount(done, total)}")

    def note(self, text: str) -> None:
        self._line(text)

    def _line(self, text: str) -> None:
        to_stderr(text + "\n", self._stream)


class LiveProgress:
    """One moving line at the bottom; what is over stays above it. Nothing appears (nor is rich imported) before there is news."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._text = ""
        self._began = 0.0

    def phase(self, code: str, text: str) -> None:
        self.finish()
        self._text, self._began = text, time.monotonic()
        self._task = self._shown().add_task(text, total=None, amount="")

    def transfer(self, code: str, text: str, done: int, total: int | None) -> None:
        if self._task is None or self._text != text:
            self.phase(code, text)
        if self._task is not None:
            self._shown().update(self._task, completed=done, total=total, amount=amount(done, total))

    def note(self, text: str) -> None:
        self._shown().console.print(text, markup=False)

    def finish(self) -> None:
        """The phase is over: its line stays, with the time it took."""
        if self._task is not None:
            self._shown().remove_task(self._task)
            self.note(f"✓ {self._text} ({time.monotonic() - self._began:.1f} s)")
            self._task = None

    def close(self) -> None:
        """Take the moving line away."""
        if self._bar is not None:
            self._bar.stop()

    def _shown(self) -> RichProgress:
        if self._bar is None:
            self._bar = _open_bar(self._renderer)
        return self._bar


def _open_bar(renderer: Renderer) -> RichProgress:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
    )
    bar = Progress(*columns, console=renderer.console(sys.stderr), transient=True)
    bar.start()
    return bar


@contextmanager
def _live(renderer: Renderer) -> Iterator[LiveProgress]:
    live = LiveProgress(renderer)
    try:
        yield live
        live.finish()
    finally:
        live.close()


def amount(done: int, total: int | None) -> str:
    """Bytes for people: `12.0 of 45.5 MiB`."""
    if total is None:
        return f"{done / MIB:,.1f} MiB"
    return f"{done / MIB:,.1f} of {total / MIB:,.1f} MiB"
