"""`down`: ends what a fleet runs and what was rented for it, and makes sure that nothing is left."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import LlmhostError, UsageError
from llmhost.core.ledger import Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.rentals import Rental
from llmhost.core.result import Result
from llmhost.fleet.commit import Change, Desk, gateway_token, send
from llmhost.fleet.desired import SSH, SUPERVISOR, VAST, serving
from llmhost.fleet.links import pins_of
from llmhost.fleet.rented.books import RENTAL
from llmhost.fleet.rented.leave import Scope, end_rented, must_ask
from llmhost.fleet.rented.parting import Parting, ended_row, in_spite_of
from llmhost.fleet.rented.rescue import Rescued, readable
from llmhost.fleet.retire import Departure, after_dismissal, dismiss, drain, left_behind, take_away
from llmhost.fleet.stopping import not_stopped, stop_all
from llmhost.fleet.turn import is_taken, my_turn
from llmhost.supervisor.launch import ensure_supervisor, is_running

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# Of a fleet that goes as a whole: what is under way is let finish for so long at most, because it bills meanwhile.
DRAIN_S = 20.0
ON_IT = "The background supervisor goes on trying (llmhost status)."


@dataclass(frozen=True, slots=True)
class Ending:
    """What was asked of `down`: these nodes (none named: the whole fleet), or all fleets. `force` = forget what cannot be reached, too.

    What is rented is never forgotten.
    """

    fleet: str
    nodes: tuple[str, ...] = ()
    everything: bool = False
    force: bool = False

    @property
    def scope(self) -> Scope:
        return Scope(self.fleet, self.nodes, self.everything)


def down(settings: Settings, paths: Paths, ending: Ending, progress: Progress) -> Result:
    """End nodes, here, on their machines and on the market. Nothing up is success.

    `data` is the contract's `{destroyed, still_billing}`, each node with what was left on its machine (`kept`), rented ones with a bill.
    A machine of the user's own that cannot be reached keeps its node in the ledger, as an error (`left_behind`): the next `down` tries
    again, and `force` forgets it with a warning. What was rented is ended and verified, also with a ledger that is damaged, gone or cannot
    be written; what may still bill is an error with exit code 6, and the supervisor goes on trying. Everything that runs here is stopped in
    any case. An `up` that is at work is waited for, or interrupted when the whole fleet goes. Raises UsageError for a node that is not
    there, LlmhostError.
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
        books = readable(paths)
    except LlmhostError as damage:
        return _without_ledger(settings, paths, ending, progress, damage)
    if books is None:
        return _without_ledger(settings, paths, ending, progress, None)
    with books.ledger as ledger:
        victims, rest = _split(ledger, ending)
        work = _Work(books, settings, paths, ending, progress)
        if rest and not victims and not must_ask(ledger, ending.scope, settings, paths):
            return Result(_data([], []), warnings=[_another_fleet(ending.fleet, rest[0].fleet)])
        return work.end_some(victims) if serving(rest) else work.end_all(victims)


def _without_ledger(
    settings: Settings, paths: Paths, ending: Ending, progress: Progress, damage: LlmhostError | None
) -> Result:
    """Everything that runs here is stopped; what is rented is known by our installation's id."""
    if damage is None and ending.nodes:
        raise _no_such_node(ending.fleet, ending.nodes)
    left, stuck = _stopped(paths, progress)
    parting = Parting()
    if must_ask(None, ending.scope, settings, paths):
        parting = end_rented([], ending.scope, settings, paths, progress, "down")
    result = Result(_data(list(parting.destroyed), list(parting.still_billing)))
    unwritten = parting.unwritten if parting.destroyed else None
    errors = [*parting.errors, *not_stopped(left), *stuck]
    trouble = damage or unwritten
    if trouble:
        errors.append(in_spite_of(trouble, parting, paths, whole=not errors, asked=not ending.nodes))
    _complain(result, errors)
    return result


def _stopped(paths: Paths, progress: Progress) -> tuple[list[int], list[LlmhostError]]:
    """Stop what runs here; what is rented is ended also where that fails. The processes that remain, and what was in the way."""
    try:
        return stop_all(paths, progress), []
    except LlmhostError as trouble:
        return [], [trouble]


def _split(ledger: Ledger, ending: Ending) -> tuple[list[NodeRecord], list[NodeRecord]]:
    """The nodes that go, and those that stay. Raises UsageError for a name that is neither a node's nor that of something rented."""
    known = ledger.nodes()
    ours = [node for node in known if ending.everything or node.fleet == ending.fleet]
    rented = {one.node_id for one in ledger.rentals.all(open_only=True) if ending.scope.has(one)}
    unknown = sorted(set(ending.nodes) - {node.id for node in ours} - rented)
    if unknown:
        raise _no_such_node(ending.fleet, unknown)
    victims = [node for node in ours if not ending.nodes or node.id in ending.nodes]
    return victims, [node for node in known if node not in victims]


def _no_such_node(fleet: str, names: tuple[str, ...] | list[str]) -> UsageError:
    return UsageError(
        f"fleet {fleet!r} has no node {', '.join(sorted(names))}.", hint="llmhost status", code="no_such_node"
    )


def _another_fleet(asked: str, up: str) -> str:
    return f"fleet {asked!r} is not up; fleet {up!r} is, and was left alone. To end that one: llmhost down --fleet {up}"


@dataclass(slots=True)
class _Work:
    books: Rescued
    settings: Settings
    paths: Paths
    ending: Ending
    progress: Progress
    troubles: list[LlmhostError] = field(default_factory=list)
    stuck: list[LlmhostError] = field(default_factory=list)

    @property
    def ledger(self) -> Ledger:
        return self.books.ledger

    def end_all(self, victims: list[NodeRecord]) -> Result:
        """Nothing stays: forget it first, so that nobody starts it again, then stop the supervisor with everything under it.

        What is on other machines is only forgotten when it is gone there, and while something bills its watch stays. A ledger that cannot
        be written (a full disk) keeps nothing from being stopped; it is the error then.
        """
        watched = bool(self.ledger.rentals.all(open_only=True))
        if watched:
            self._drain(victims)
        self._write(lambda nodes: after_dismissal(nodes, {node.id for node in victims}), stays=False)
        left = self._leave_the_watch() if watched else self._stop()
        parting = self._end_rented()
        result = self._finish(victims, left, parting)
        if watched and not self._still_open():
            _complain(result, [*not_stopped(self._stop()), *self.stuck])
        return result

    def _stop(self) -> list[int]:
        left, self.stuck = _stopped(self.paths, self.progress)
        return left

    def end_some(self, victims: list[NodeRecord]) -> Result:
        """Some stay: gateway and links are told, and go on without the others."""
        ids = {node.id for node in victims}
        if is_running(self.paths):
            with ensure_supervisor(self.paths, self.progress.note, module=SUPERVISOR) as client:
                desk = Desk(self.ledger, client, self.settings, self.paths, gateway_token(self.paths))
                drain(desk, ids, self.progress)
                dismiss(desk, ids)
        else:
            self._write(lambda nodes: after_dismissal(nodes, ids), stays=True)
        return self._finish(victims, [], self._end_rented())

    def _drain(self, victims: list[NodeRecord]) -> None:
        """What goes on over a link is let finish before the link is closed; trouble with that keeps nothing from being ended."""
        ids = {node.id for node in serving(victims)}
        if not ids or not is_running(self.paths):
            return
        start = ensure_supervisor
        with contextlib.suppress(LlmhostError), start(self.paths, self.progress.note, module=SUPERVISOR) as client:
            drain(self._desk(client), ids, self.progress, DRAIN_S)

    def _leave_the_watch(self) -> list[int]:
        """Gateway, links and whatever else runs here end; who watches what is rented stays until it is gone. The processes that remain."""
        if not is_running(self.paths):
            return self._stop()  # the rest of one that was killed
        try:
            with ensure_supervisor(self.paths, self.progress.note, module=SUPERVISOR) as client:
                self.progress.phase("stop", "stopping the gateway and closing the links")
                send(self._desk(client), [], None)
        except LlmhostError as error:
            self.progress.note(error.message)
            return self._stop()
        return []

    def _desk(self, client: Any) -> Desk:
        return Desk(self.ledger, client, self.settings, self.paths, gateway_token(self.paths))

    def _end_rented(self) -> Parting:
        if not must_ask(self.ledger, self.ending.scope, self.settings, self.paths):
            return Parting()
        mine = [one for one in self.ledger.rentals.all(open_only=True) if self.ending.scope.has(one)]
        scope = self.ending.scope
        return end_rented(mine, scope, self.settings, self.paths, self.progress, "down", books=self._books_by_now())

    def _books_by_now(self) -> Rescued | None:
        """A copy has to be told what became of it; the ledger itself is opened anew, as its disk may be full by now."""
        return self.books if self.books.trouble else None

    def _finish(self, victims: list[NodeRecord], left: list[int], parting: Parting) -> Result:
        elsewhere = [node for node in victims if node.provider == SSH]
        departures = {one.node.id: one for one in take_away(elsewhere, self.settings, self.paths, self.progress)}
        gone = {id for id, one in departures.items() if one.error is None or self.ending.force}
        bills = {one.label for one in parting.open}
        gone |= self._without_pins(
            [one for one in victims if one.provider == VAST and one.spec.get(RENTAL) not in bills]
        )
        self._write(lambda nodes: [node for node in nodes if node.id not in gone], stays=True)
        self._forget_terms()
        stopped = not left and not self.stuck
        rows = [_ended(node, departures.get(node.id), stopped) for node in victims if node.provider != VAST]
        rows += [*parting.destroyed, *self._gone_before(victims, parting)]
        result = Result(_data(rows, list(parting.still_billing)), warnings=list(parting.warnings))
        behind = [left_behind(one) for one in departures.values() if one.error is not None]
        if self.ending.force:
            result.warnings += [f"{error.message} It is forgotten here." for error in behind]
            behind = []
        errors = [*self._with_watch(parting), *not_stopped(left), *self.stuck, *behind]
        self.stuck = []
        trouble = self.books.trouble or parting.unwritten
        if trouble and rows:
            self.troubles.insert(0, in_spite_of(trouble, parting, self.paths, whole=not errors))
        elif trouble:
            result.warnings.append(trouble.message)
        _complain(result, [*errors, *self.troubles[:1]])
        return result

    def _without_pins(self, nodes: list[NodeRecord]) -> set[str]:
        """The ids of rented nodes that are gone; what they were known by is forgotten with them."""
        for node in nodes:
            with contextlib.suppress(LlmhostError):
                pins_of(self.paths).forget(node.spec["alias"])
        return {node.id for node in nodes}

    def _gone_before(self, victims: list[NodeRecord], parting: Parting) -> list[dict[str, Any]]:
        """Nodes whose machines were gone already: what they cost is said all the same."""
        told = {row["label"] for row in parting.destroyed}
        rows = []
        for node in (node for node in victims if node.provider == VAST and node.spec.get(RENTAL) not in told):
            rental = self.ledger.rentals.get(str(node.spec.get(RENTAL)))
            rows.append(ended_row(node.id, rental, verified=rental is None or not rental.is_open))
        return rows

    def _with_watch(self, parting: Parting) -> list[LlmhostError]:
        """The errors; where something may bill, with who goes on trying."""
        if parting.open and self._watched():
            parting.errors[0].message = f"{parting.errors[0].message.rstrip()} {ON_IT}"
        return list(parting.errors)

    def _watched(self) -> bool:
        """Have the watch run; whether it does, and has a key to work with."""
        from llmhost.providers.vast.key import find_key

        try:
            if find_key(self.settings) is None and not is_running(self.paths):
                return False
            with ensure_supervisor(self.paths, self.progress.note, module=SUPERVISOR) as client:
                gateway = self.ledger.gateway()
                send(self._desk(client), self.ledger.nodes() if gateway else [], gateway, keep=True)
        except LlmhostError as error:
            self.troubles.append(error)
            return False
        return True

    def _still_open(self) -> list[Rental]:
        try:
            return self.ledger.rentals.all(open_only=True)
        except LlmhostError:
            return []

    def _forget_terms(self) -> None:
        """Of fleets that have nothing rented any more."""
        with contextlib.suppress(LlmhostError):
            rentals = self.ledger.rentals.all()
            for fleet in {one.fleet for one in rentals} - {one.fleet for one in rentals if one.is_open}:
                self.ledger.rentals.forget_terms(fleet)

    def _write(self, change: Change, *, stays: bool) -> None:
        try:
            with self.ledger.transaction():
                self.ledger.set_nodes(change(self.ledger.nodes()))
                if not stays:
                    self.ledger.put_gateway(None)
        except LlmhostError as trouble:
            self.troubles.append(trouble)


def _complain(result: Result, errors: list[LlmhostError]) -> None:
    for error in errors:
        result.errors.append(error.as_dict())
        result.exit_code = result.exit_code or error.exit_code


def _ended(node: NodeRecord, departure: Departure | None, stopped: bool) -> dict[str, Any]:
    verified = stopped and (departure is None or departure.error is None)
    kept = list(departure.kept) if departure else []
    return {"id": node.id, "instance_id": None, "spent_usd": 0.0, "verified": verified, "kept": kept}


def _data(destroyed: list[dict[str, Any]], still_billing: list[Any]) -> dict[str, Any]:
    return {"destroyed": destroyed, "still_billing": still_billing}
