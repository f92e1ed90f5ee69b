"""`down`: ends what a fleet runs, and makes sure that nothing is left."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import LlmhostError, UsageError
from llmhost.core.ledger import Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.result import Result
from llmhost.fleet.commit import Change, Desk, gateway_token
from llmhost.fleet.desired import SSH, SUPERVISOR, serving
from llmhost.fleet.retire import Departure, after_dismissal, dismiss, drain, left_behind, take_away
from llmhost.fleet.turn import is_taken, my_turn
from llmhost.supervisor import lock
from llmhost.supervisor.launch import (
    await_orphans,
    end_holder,
    end_supervisor,
    ensure_supervisor,
    find_supervisor,
    is_running,
)

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Ending:
    """What was asked of `down`: these nodes (none named: the whole fleet), or all fleets. `force` = forget what cannot be reached, too."""

    fleet: str
    nodes: tuple[str, ...] = ()
    everything: bool = False
    force: bool = False


def down(settings: Settings, paths: Paths, ending: Ending, progress: Progress) -> Result:
    """End nodes, here and on their machines. Nothing up is success.

    `data` is the contract's `{destroyed, still_billing}`, each node with what was left on its machine (`kept`). A machine that cannot be
    reached keeps its node in the ledger, as an error (`left_behind`): the next `down` tries again, and `force` forgets it with a warning.
    With a damaged ledger everything that runs here is stopped all the same, and the damage is the error. An `up` over SSH that is at work
    is waited for, or interrupted when the whole fleet goes. Raises UsageError for a node that is not there, LlmhostError.
    """
    with contextlib.ExitStack() as stack:
        if paths.ledger_file.exists() or is_taken(paths):
            with contextlib.suppress(
                LlmhostError
            ):  # a state folder that cannot be written keeps nothing from being stopped
                stack.enter_context(my_turn(paths, progress, interrupt=not ending.nodes))
        return _down(settings, paths, ending, progress)


def _down(settings: Settings, paths: Paths, ending: Ending, progress: Progress) -> Result:
    try:
        ledger = Ledger.open_existing(paths.ledger_file)
    except LlmhostError as damage:
        _stop_all(paths, progress)
        return Result(_data([], []), errors=[damage.as_dict()], exit_code=damage.exit_code)
    if ledger is None:
        _split([], ending)
        _stop_all(paths, progress)
        return Result(_data([], []))
    with ledger:
        victims, rest = _split(ledger.nodes(), ending)
        if rest and not victims:
            return Result(_data([], []), warnings=[_another_fleet(ending.fleet, rest[0].fleet)])
        work = _Work(ledger, settings, paths, ending, progress)
        return work.end_some(victims) if serving(rest) else work.end_all(victims)


def _split(known: list[NodeRecord], ending: Ending) -> tuple[list[NodeRecord], list[NodeRecord]]:
    """The nodes that go, and those that stay."""
    ours = [node for node in known if ending.everything or node.fleet == ending.fleet]
    unknown = sorted(set(ending.nodes) - {node.id for node in ours})
    if unknown:
        raise UsageError(
            f"fleet {ending.fleet!r} has no node {', '.join(unknown)}.", hint="llmhost status", code="no_such_node"
        )
    victims = [node for node in ours if not ending.nodes or node.id in ending.nodes]
    return victims, [node for node in known if node not in victims]


def _another_fleet(asked: str, up: str) -> str:
    return f"fleet {asked!r} is not up; fleet {up!r} is, and was left alone. To end that one: llmhost down --fleet {up}"


@dataclass(frozen=True, slots=True)
class _Work:
    ledger: Ledger
    settings: Settings
    paths: Paths
    ending: Ending
    progress: Progress

    def end_all(self, victims: list[NodeRecord]) -> Result:
        """Nothing stays: forget it first, so that nobody starts it again, then stop the supervisor with everything under it.

        What is on other machines is only forgotten when it is gone there. A ledger that cannot be written (a full disk) keeps nothing from
        being stopped; it is the error then.
        """
        trouble = self._write(lambda nodes: after_dismissal(nodes, {node.id for node in victims}), stays=False)
        left = _stop_all(self.paths, self.progress)
        return self._finish(victims, left, trouble)

    def end_some(self, victims: list[NodeRecord]) -> Result:
        """Some stay: gateway and links are told, and go on without the others."""
        ids = {node.id for node in victims}
        if is_running(self.paths):
            with ensure_supervisor(self.paths, self.progress.note, module=SUPERVISOR) as client:
                desk = Desk(self.ledger, client, self.settings, self.paths, gateway_token(self.paths))
                drain(desk, ids, self.progress)
                dismiss(desk, ids)
            return self._finish(victims, [], None)
        trouble = self._write(lambda nodes: after_dismissal(nodes, ids), stays=True)
        return self._finish(victims, [], trouble)

    def _finish(self, victims: list[NodeRecord], left: list[int], trouble: LlmhostError | None) -> Result:
        elsewhere = [node for node in victims if node.provider == SSH]
        departures = {one.node.id: one for one in take_away(elsewhere, self.settings, self.paths, self.progress)}
        gone = {id for id, one in departures.items() if one.error is None or self.ending.force}
        trouble = self._write(lambda nodes: [node for node in nodes if node.id not in gone], stays=True) or trouble
        result = Result(_data([_ended(node, departures.get(node.id), left) for node in victims], []))
        behind = [left_behind(one) for one in departures.values() if one.error is not None]
        if self.ending.force:
            result.warnings += [f"{error.message} It is forgotten here." for error in behind]
            behind = []
        for error in [*_not_stopped(left), *behind, *([trouble] if trouble else [])]:
            result.errors.append(error.as_dict())
            result.exit_code = result.exit_code or error.exit_code
        return result

    def _write(self, change: Change, *, stays: bool) -> LlmhostError | None:
        try:
            with self.ledger.transaction():
                self.ledger.set_nodes(change(self.ledger.nodes()))
                if not stays:
                    self.ledger.put_gateway(None)
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
        for path in (paths.control_socket, *paths.runtime_dir.glob("*.sock")):
            path.unlink(missing_ok=True)
    lock.remove(paths.supervisor_lock, descriptor)
    return left


def _not_stopped(left: list[int]) -> list[LlmhostError]:
    if not left:
        return []
    shown = ", ".join(map(str, left))
    hint = f"kill -9 {shown.replace(',', '')}"
    return [LlmhostError(f"processes {shown} did not end.", hint=hint, code="not_stopped")]


def _ended(node: NodeRecord, departure: Departure | None, left: list[int]) -> dict[str, Any]:
    verified = not left and (departure is None or departure.error is None)
    kept = list(departure.kept) if departure else []
    return {"id": node.id, "instance_id": None, "spent_usd": 0.0, "verified": verified, "kept": kept}


def _data(destroyed: list[dict[str, Any]], still_billing: list[Any]) -> dict[str, Any]:
    return {"destroyed": destroyed, "still_billing": still_billing}
