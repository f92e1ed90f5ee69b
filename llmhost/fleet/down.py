"""`down`: ends what a fleet runs, and makes sure that nothing is left."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import LlmhostError, UsageError
from llmhost.core.ledger import Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.result import Result
from llmhost.supervisor import lock
from llmhost.supervisor.launch import await_orphans, end_holder, end_supervisor, find_supervisor

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

STOP_S = 20.0


def down(
    settings: Settings, paths: Paths, fleet: str, nodes: list[str], everything: bool, progress: Progress
) -> Result:
    """End the named nodes, the whole fleet (none named), or all fleets (`everything`). Nothing up is success.

    `data` is the contract's `{destroyed, still_billing}`. With a damaged ledger everything that runs is stopped all the same, and the
    damage is the error. Raises UsageError for a node that is not there, LlmhostError.
    """
    try:
        ledger = Ledger.open_existing(paths.ledger_file)
    except LlmhostError as damage:
        _stop_all(paths, progress)
        return Result(_data([], []), errors=[damage.as_dict()], exit_code=damage.exit_code)
    if ledger is None:
        _split([], fleet, nodes, everything)
        _stop_all(paths, progress)
        return Result(_data([], []))
    with ledger:
        victims, rest = _split(ledger.nodes(), fleet, nodes, everything)
        if not rest:
            return _stop_fleet(ledger, victims, paths, progress)
    return Result(_data([], []), warnings=[_another_fleet(fleet, rest[0].fleet)])


def _split(
    known: list[NodeRecord], fleet: str, named: list[str], everything: bool
) -> tuple[list[NodeRecord], list[NodeRecord]]:
    """The nodes that go, and those that stay."""
    ours = [node for node in known if everything or node.fleet == fleet]
    unknown = sorted(set(named) - {node.id for node in ours})
    if unknown:
        raise UsageError(
            f"fleet {fleet!r} has no node {', '.join(unknown)}.", hint="llmhost status", code="no_such_node"
        )
    victims = [node for node in ours if not named or node.id in named]
    return victims, [node for node in known if node not in victims]


def _another_fleet(asked: str, up: str) -> str:
    return f"fleet {asked!r} is not up; fleet {up!r} is, and was left alone. To end that one: llmhost down --fleet {up}"


def _stop_fleet(ledger: Ledger, victims: list[NodeRecord], paths: Paths, progress: Progress) -> Result:
    """Nothing stays: forget it first, so that nobody starts it again, then stop the supervisor with everything under it.

    A ledger that cannot be written (a full disk) keeps nothing from being stopped; it is the error then.
    """
    trouble = _forget(ledger)
    result = _result(victims, _stop_all(paths, progress))
    if trouble is not None:
        result.errors.append(trouble.as_dict())
        result.exit_code = trouble.exit_code
    return result


def _forget(ledger: Ledger) -> LlmhostError | None:
    try:
        with ledger.transaction():
            for node in ledger.nodes():
                ledger.remove_node(node.id)
            ledger.put_gateway(None)
    except LlmhostError as trouble:
        return trouble
    return None


def _stop_all(paths: Paths, progress: Progress) -> list[int]:
    """Stop the supervisor, and clean up after one that was killed. The processes that still run."""
    client = find_supervisor(paths)
    if client is None:
        left = end_holder(paths)
    else:
        progress.phase("stop", "stopping; requests in flight may finish first")
        with client:
            left = end_supervisor(client, timeout_s=STOP_S)
    return left + _clean(paths)


def _clean(paths: Paths) -> list[int]:
    """After a supervisor that was killed: wait for its children, then remove its lock file and sockets, which nobody uses then."""
    if not paths.supervisor_lock.exists():
        return []
    descriptor = lock.try_lock(paths.supervisor_lock)
    if descriptor is None:
        return []  # somebody has just started a new one
    left = await_orphans(paths)
    with contextlib.suppress(OSError):
        for path in (paths.control_socket, *paths.runtime_dir.glob("node-*.sock")):
            path.unlink(missing_ok=True)
    lock.remove(paths.supervisor_lock, descriptor)
    return left


def _result(victims: list[NodeRecord], left: list[int]) -> Result:
    result = Result(_data(victims, left))
    if left:
        shown = ", ".join(map(str, left))
        error = LlmhostError(
            f"processes {shown} did not end.", hint=f"kill -9 {shown.replace(',', '')}", code="not_stopped"
        )
        result.errors.append(error.as_dict())
        result.exit_code = error.exit_code
    return result


def _data(victims: list[NodeRecord], left: list[int]) -> dict[str, Any]:
    destroyed = [{"id": node.id, "instance_id": None, "spent_usd": 0.0, "verified": not left} for node in victims]
    return {"destroyed": destroyed, "still_billing": []}
