"""`up` over SSH from its first look to its end: one turn, one set of open sessions, nothing kept of a plan that is not carried out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.result import Result
from llmhost.fleet.plan import UpRequest
from llmhost.fleet.remote_look import make_remote_plan
from llmhost.fleet.remote_plan import RemotePlan
from llmhost.fleet.remote_up import up_remote
from llmhost.fleet.turn import my_turn
from llmhost.fleet.visit import Visits

if TYPE_CHECKING:
    from llmhost.core.settings import Settings


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with the sessions it was made over still open."""

    plan: RemotePlan
    settings: Settings
    paths: Paths
    _visits: Visits
    _undo: ExitStack

    def carry_out(self, progress: Progress) -> Result:
        """Do it. Raises as `up_remote` does."""
        result = up_remote(self.plan, self.settings, self.paths, self._visits, progress)
        self._undo.pop_all()
        return result


@contextlib.contextmanager
def prepared(request: UpRequest, settings: Settings, paths: Paths, progress: Progress) -> Iterator[Prepared]:
    """Look at every host and plan. Raises as `make_remote_plan` does."""
    with my_turn(paths, progress), ExitStack() as undo, Visits(settings, paths) as visits:
        plan = make_remote_plan(request, settings, paths, visits, progress, undo)
        yield Prepared(plan, settings, paths, visits, undo)
