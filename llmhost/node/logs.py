"""The end of a service's log, and what is added to it."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from llmhost.core.errors import UsageError
from llmhost.node.layout import Layout
from llmhost.supervisor import logfile

SOURCES = ("proxy", "ollama", "supervisor")
LOOK_EVERY_S = 0.2
CHUNK = 65_536


def log_of(layout: Layout, source: str) -> Path:
    """Raises UsageError for a source a node does not have."""
    if source not in SOURCES:
        raise UsageError(f"a node has no log {source!r}.", hint=f"There are: {', '.join(SOURCES)}.")
    return layout.paths.log_file(source)


def last_lines(path: Path, lines: int) -> list[str]:
    return logfile.tail(path, lines)


def follow(path: Path, lines: int, gone: Callable[[], bool]) -> Iterator[str]:
    """The last lines, then every new one, until `gone` says that nobody reads them any more."""
    place = path.stat().st_size if path.exists() else 0
    yield from logfile.tail(path, lines)
    rest = b""
    while not gone():
        place, data = _more(path, place)
        *complete, rest = (rest + data).split(b"\n")
        yield from (line.decode(errors="replace") for line in complete)
        if not data:
            time.sleep(LOOK_EVERY_S)


def _more(path: Path, place: int) -> tuple[int, bytes]:
    try:
        with path.open("rb") as file:
            # Shorter than it was: rotated, so all of it is new.
            file.seek(place if place <= os.fstat(file.fileno()).st_size else 0)
            data = file.read(CHUNK)
            return file.tell(), data
    except OSError:
        return 0, b""


def reader_gone(descriptor: int, wait: bool = False) -> bool:
    """Whether the other end of a pipe or socket was closed, which a writer otherwise learns only when it writes; `wait` until it is."""
    poller = select.poll()
    poller.register(descriptor, 0)
    found = poller.poll(None if wait else 0)
    return any(event & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, event in found)
