"""The logs of a fleet's processes, merged by time, and followed as they grow."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from llmhost.core.errors import UsageError
from llmhost.core.paths import Paths
from llmhost.supervisor import logfile

SOURCES = ("onstart", "ollama", "proxy", "tunnel", "gateway")
POLL_S = 0.2
_NODE_PREFIX = "node-"
_LINK_PREFIX = "tunnel-"


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. `time` is RFC 3339 where the line says one, else None; `text` is the line as written."""

    source: str
    node: str | None
    time: str | None
    text: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Log:
    path: Path
    source: str
    node: str | None

    def line(self, text: str) -> LogLine:
        return line_of(self.source, self.node, text)


def read_logs(
    paths: Paths, node: str | None, source: str | None, lines: int, nodes: Collection[str] = ()
) -> list[LogLine]:
    """The last `lines` lines of what is asked for and kept here, in the order of their times. `nodes` are known besides those with a log.

    Raises UsageError for a name that is none.
    """
    found: list[LogLine] = []
    for log in _logs(paths, node, source, nodes):
        found += [log.line(text) for text in logfile.tail(log.path, lines)]
    return by_time(found)[-lines:] if lines > 0 else []


def follow_logs(
    paths: Paths, node: str | None, source: str | None, lines: int, nodes: Collection[str] = ()
) -> Iterator[LogLine]:
    """The last `lines` lines, then every new one as it comes, for ever. New files and rotated ones are noticed."""
    places = {log.path: _size(log.path) for log in _logs(paths, node, source, nodes)}
    yield from read_logs(paths, node, source, lines, nodes)
    while True:
        for log in _logs(paths, node, source, nodes):
            fresh, places[log.path] = _read_from(log.path, places.get(log.path, 0))
            yield from map(log.line, fresh)
        time.sleep(POLL_S)


def line_of(source: str, node: str | None, text: str) -> LogLine:
    """A line with the time it tells."""
    return LogLine(source, node, _time_of(text), text)


def _logs(paths: Paths, node: str | None, source: str | None, nodes: Collection[str]) -> list[_Log]:
    if source is not None and source not in SOURCES:
        raise UsageError(
            f"there is no log source {source!r}.", hint=f"Sources are {', '.join(SOURCES)}.", code="no_such_source"
        )
    known = [_describe(path) for path in sorted(paths.log_dir.glob("*.log"))]
    if node is not None and node not in {*nodes, *(log.node for log in known)}:
        raise UsageError(f"there is no log of a node {node!r}.", hint="llmhost status", code="no_such_node")
    return [log for log in known if source in (None, log.source) and node in (None, log.node)]


def _describe(path: Path) -> _Log:
    name = path.stem
    if name.startswith(_NODE_PREFIX):
        return _Log(path, "proxy", name.removeprefix(_NODE_PREFIX))
    if name.startswith(_LINK_PREFIX):
        return _Log(path, "tunnel", name.removeprefix(_LINK_PREFIX))
    return _Log(path, "tunnel" if name == "supervisor" else name, None)


def by_time(lines: list[LogLine]) -> list[LogLine]:
    """Sorted; a line without a time (part of a trace) stays behind the one before it."""
    keyed: list[tuple[float, LogLine]] = []
    last: dict[tuple[str, str | None], float] = {}
    for line in lines:
        place = (line.source, line.node)
        moment = _moment(line.time)
        last[place] = last.get(place, 0.0) if moment is None else moment
        keyed.append((last[place], line))
    return [line for _, line in sorted(keyed, key=lambda pair: pair[0])]


def _moment(time: str | None) -> float | None:
    """Seconds since 1970; a time without an offset is this machine's. None for what is no time."""
    try:
        return datetime.fromisoformat(time).timestamp() if time else None
    except (ValueError, OverflowError):
        return None


def _time_of(text: str) -> str | None:
    if text.startswith("{"):
        try:
            said = json.loads(text).get("time")
        except ValueError:
            return None
        return said if isinstance(said, str) else None
    if text.startswith("time="):  # Ollama's own format
        return text[len("time=") :].split(" ", 1)[0]
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_from(path: Path, place: int) -> tuple[list[str], int]:
    """The whole lines after `place`, and where the next begin. A file that shrank was rotated: it is read from its start."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(place if place <= size else 0)
            start = file.tell()
            data = file.read()
    except OSError:
        return [], place
    whole = data[: data.rfind(b"\n") + 1]
    return whole.decode(errors="replace").splitlines(), start + len(whole)
