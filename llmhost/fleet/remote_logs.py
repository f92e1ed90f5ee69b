"""The logs of the whole fleet: what is kept here, and what the nodes keep, asked for over SSH."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import NodeRecord
from llmhost.core.paths import Paths
from llmhost.fleet.desired import INSTALLING, OLLAMA, PROXY, is_remote, phase_of
from llmhost.fleet.logs import LogLine, by_time, follow_logs, line_of, read_logs
from llmhost.fleet.plan import recorded
from llmhost.fleet.rented.onstart_log import ONSTART, onstart_logs
from llmhost.fleet.together import at_once
from llmhost.fleet.visit import Visits

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

_THERE = (PROXY, OLLAMA)


@dataclass(frozen=True, slots=True)
class LogWish:
    """Whose and which log, and how much of it. None = all."""

    node: str | None = None
    source: str | None = None
    lines: int = 100


def read_fleet_logs(settings: Settings, paths: Paths, wish: LogWish) -> tuple[list[LogLine], list[str]]:
    """The last lines in the order of their times, and a warning for each node that could not be asked.

    What the start scripts of rented machines said is asked for only by its name, `onstart`, because the market must be asked. Raises
    UsageError, AuthenticationNeeded (for `onstart`, without a key).
    """
    if wish.source == ONSTART and any(told := onstart_logs(settings, paths, settings.fleet, wish.node, wish.lines)):
        return told
    nodes = recorded(paths)[0]
    found = read_logs(paths, wish.node, wish.source, wish.lines, [node.id for node in nodes])
    warnings = []
    asked = [node for node in _asked(nodes, wish) if _sources(node, wish)]
    with Visits(settings, paths) as visits:

        def fetch(node: NodeRecord) -> list[LogLine]:
            lines: list[LogLine] = []
            agent = visits.agent(node)
            for source in _sources(node, wish):
                agent.logs(source, wish.lines, _collector(lines, source, node.id))
            return lines

        for node, result in zip(asked, at_once(asked, fetch, visits.close), strict=True):
            if isinstance(result, LlmhostError):
                warnings.append(_unreachable(node, result))
            else:
                found += result
    return by_time(found)[-wish.lines :] if wish.lines > 0 else [], warnings


def follow_fleet_logs(
    settings: Settings, paths: Paths, wish: LogWish, warn: Callable[[str], None]
) -> Iterator[LogLine]:
    """The last lines, then every new one from everywhere as it comes, for ever; `warn` hears of a node that cannot be asked (any more)."""
    nodes = recorded(paths)[0]
    here = follow_logs(paths, wish.node, wish.source, wish.lines, [node.id for node in nodes])
    coming: queue.SimpleQueue[LogLine | str | BaseException] = queue.SimpleQueue()
    with Visits(settings, paths) as visits:
        for node in _asked(nodes, wish):
            for source in _sources(node, wish):
                _start(_there(visits, node, source, wish.lines, coming))
        _start(_here(here, coming))
        while True:
            item = coming.get()
            if isinstance(item, BaseException):
                raise item
            if isinstance(item, str):
                warn(item)
            else:
                yield item


def _collector(lines: list[LogLine], source: str, node_id: str) -> Callable[[str], None]:
    return lambda text: lines.append(line_of(source, node_id, text))


def _start(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def _here(lines: Iterator[LogLine], coming: queue.SimpleQueue[LogLine | str | BaseException]) -> Callable[[], None]:
    def work() -> None:
        try:
            for line in lines:
                coming.put(line)
        except (LlmhostError, OSError) as error:
            coming.put(error)

    return work


def _there(
    visits: Visits,
    node: NodeRecord,
    source: str,
    lines: int,
    coming: queue.SimpleQueue[LogLine | str | BaseException],
) -> Callable[[], None]:
    def work() -> None:
        try:
            agent = visits.agent(node)
            agent.logs(source, lines, lambda text: coming.put(line_of(source, node.id, text)), follow=True)
        except LlmhostError as error:
            coming.put(_unreachable(node, error))

    return work


def _asked(nodes: list[NodeRecord], wish: LogWish) -> list[NodeRecord]:
    there = [node for node in nodes if is_remote(node) and phase_of(node) != INSTALLING]
    return [node for node in there if wish.node in (None, node.id)]


def _sources(node: NodeRecord, wish: LogWish) -> list[str]:
    kept = _THERE if node.backend == OLLAMA else (PROXY,)
    return [source for source in kept if wish.source in (None, source)]


def _unreachable(node: NodeRecord, error: LlmhostError) -> str:
    return f"the logs of {node.id} cannot be read: {error.message}"
