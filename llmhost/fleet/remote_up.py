"""`up` over SSH: makes a plan of `make_remote_plan` hold, waits until it serves, proves it. What fails is undone on the machines, too."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmhost.bootstrap.install import Installed
from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.result import Result
from llmhost.fleet.commit import Desk, any_change, gateway_token, undone_on_failure
from llmhost.fleet.desired import SUPERVISOR, phase_of
from llmhost.fleet.into_service import Outcome, result_of, serve, want
from llmhost.fleet.node_progress import Board
from llmhost.fleet.remote_node import announced, install, put_back, record_of
from llmhost.fleet.remote_plan import NodePlan, RemotePlan
from llmhost.fleet.retire import left_behind, take_away
from llmhost.fleet.succession import replaced
from llmhost.fleet.together import all_or_raise, at_once
from llmhost.fleet.visit import Visits
from llmhost.supervisor.launch import end_supervisor, ensure_supervisor, is_running

if TYPE_CHECKING:
    from llmhost.core.settings import Settings


def up_remote(plan: RemotePlan, settings: Settings, paths: Paths, visits: Visits, progress: Progress) -> Result:
    """Carry out a plan whose sessions are still open.

    `data` as that of `up`. Raises NotReady, SshFailure, LlmhostError; what the call started, here and there, is undone then, and what could
    not be reached any more for it is named.
    """
    paths.create()
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger.open(paths.ledger_file))
        token = gateway_token(paths)
        started_here = not is_running(paths)
        client = stack.enter_context(ensure_supervisor(paths, progress.note, module=SUPERVISOR))
        desk = Desk(ledger, client, settings, paths, token)
        work = _Work(desk, plan, visits, progress)
        undone_here = undone_on_failure(desk, progress, started_here=started_here, left=work.left)
        with undone_here, work.undone_over_there():
            outcome = work.carry_out()
        # from here on nothing is undone: it serves
        let_go = replaced(desk, plan.leaving, progress)
        result = result_of(desk, plan, outcome)
        let_go.into(result)
        if started_here and not plan.tunnel and not ledger.rentals.all(open_only=True):
            end_supervisor(client)  # nothing runs here before `llmhost tunnel`
        return result


@dataclass(slots=True)
class _Work:
    desk: Desk
    plan: RemotePlan
    visits: Visits
    progress: Progress
    _touched: list[NodeRecord] = field(default_factory=list)

    def carry_out(self) -> Outcome:
        announced_as = self._announce()
        installed = self._install(announced_as)
        records = [
            record_of(node, announced_as[node.place.node_id], one, self.desk.paths)
            for node, one in zip(self.plan.nodes, installed, strict=True)
        ]
        did = want(self.desk, self.plan, records)
        proof = None
        changed = any(one.changed for one in installed) or any_change(did) or bool(self.plan.leaving)
        if self.plan.tunnel:
            proof = serve(self.desk, [record.id for record in records], self.progress, changed=changed)
        if not changed:
            self.progress.note("already up as asked for: nothing changed")
        warnings = [*self.plan.warnings, *(note for one in installed for note in one.notes)]
        return Outcome(did, changed, proof, warnings)

    def _announce(self) -> dict[str, NodeRecord]:
        """Write down which nodes are about to come, so that a crash from here on can be cleaned up after."""
        found = {node.place.node_id: announced(node, self.plan.fleet) for node in self.plan.nodes}
        with self.desk.ledger.transaction():
            for node in self.plan.nodes:
                if node.action == "create":
                    self.desk.ledger.put_node(found[node.place.node_id])
        return found

    def _install(self, records: dict[str, NodeRecord]) -> list[Installed]:
        board = Board(self.progress)

        def one(node: NodePlan) -> Installed:
            record = records[node.place.node_id]
            self._touched.append(record if node.action == "create" else node.place.record or record)
            return install(node, record.token, self.desk.settings, board.node(record.id))

        return all_or_raise(at_once(self.plan.nodes, one, self.visits.close))

    @contextlib.contextmanager
    def undone_over_there(self) -> Iterator[None]:
        """Whatever ends the block early, the machines are as they were: new nodes removed, changed ones put back."""
        try:
            yield
        except BaseException:
            self.visits.close()
            # The failure that brought us here says more than one of these.
            with contextlib.suppress(LlmhostError, OSError):
                self._undo()
            raise

    def left(self) -> list[NodeRecord]:
        """New nodes that were begun, and not taken away again."""
        return [node for node in self._touched if phase_of(node) is not None]

    def _undo(self) -> None:
        settings, paths = self.desk.settings, self.desk.paths
        for departure in take_away(self.left(), settings, paths, self.progress):
            if departure.error is None:
                self._touched.remove(departure.node)
            else:
                self.progress.note(left_behind(departure).message)
        with Visits(settings, paths) as visits:
            board = Board(self.progress)

            def back(node: NodeRecord) -> None:
                put_back(visits.to(node), node, settings, board.node(node.id))

            at_once([node for node in self._touched if phase_of(node) is None], back, visits.close)
