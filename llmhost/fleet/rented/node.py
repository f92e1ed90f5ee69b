"""A rented machine that lets us in becomes a node: by the bootstrap that every machine over SSH gets, and then by checks of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

from llmhost.bootstrap.agent import Agent
from llmhost.bootstrap.install import Installed
from llmhost.bootstrap.machine import Machine, inspect
from llmhost.core.errors import Interrupted, LlmhostError
from llmhost.core.guard_files import GUARD, STATE
from llmhost.core.ledger import NodeRecord
from llmhost.core.ollama_models import same_model
from llmhost.core.progress import Progress
from llmhost.core.secrets import new_token
from llmhost.fleet.hosts import Place, default_transport
from llmhost.fleet.remote_node import announced, install, record_of
from llmhost.fleet.remote_plan import NodePlan
from llmhost.fleet.rented.boot import BootDesk, Booted, boot
from llmhost.fleet.rented.boot_failure import BootFailed, because, name_of, proven, remember
from llmhost.fleet.rented.classify import Blame, shown
from llmhost.fleet.rented.phases import Teller
from llmhost.fleet.rented.pull_watch import PullWatch
from llmhost.providers.base import BackendChoice
from llmhost.ssh.failures import SshFailure

if TYPE_CHECKING:
    from llmhost.core.rentals import Rental

# A connection that is lost is made again, and the bootstrap goes on from where it was.
SESSIONS = 3
# What the dead-man switch says when the instance's own key did not pass its check (templates/onstart.sh).
GUARD_FAILED = "failed"
ASK_S = 30.0
# Where the switch is being set up, its first word may be a moment away.
_GUARD_ASKED = f"for i in 1 2 3 4 5; do [ -d {GUARD} ] && [ ! -s {STATE} ] || break; sleep 1; done; cat {STATE}"
# A card says a little less than its maker does; what is asked for is a sum of estimates (vast facts §4.3).
VRAM_SLACK_MB = 600
# Who is to blame for an error of the bootstrap; those of SSH are the network's, all others ours.
_BLAME: dict[str, Blame] = {
    "no_shell": "image",
    "no_python": "image",
    "home_read_only": "image",
    "home_noexec": "image",
    "unsupported_platform": "image",
    "node_unwritable": "host",
    "node_not_up": "host",
    "node_failed": "host",
    "node_not_installed": "host",
    "bundle_damaged": "network",
    "ollama_install_failed": "network",
    "node_offline": "network",
    "pull_failed": "network",
    "pull_stalled": "network",
    "ollama_unavailable": "host",
}


def become_node(
    booted: Booted,
    choice: BackendChoice,
    desk: BootDesk,
    progress: Progress,
    *,
    token: str | None = None,
    needs_vram_mb: int = 0,
    ollama_env: Mapping[str, str] | None = None,
) -> NodeRecord:
    """Set it up, and check it: the record of a node whose proxy answers on the machine, which the ledger does not have yet.

    `token` None = a new one. `needs_vram_mb` MiB must really be there, 0 = not checked. `ollama_env` are further variables for its
    Ollama. A connection that is lost is made again; the ledger is told of the phases (`ollama`, `model`, `proxy`), and of what was learnt
    of the machine. Raises BootFailed (`gpu_lost`, `vram_short`, `model_missing`, `pull_stalled`, those of `boot` and of the bootstrap),
    Interrupted (`desk.stop`).
    """
    rental = booted.rental
    teller = Teller(desk.ledger, rental.label, progress, engine=choice.backend == "ollama")
    setup = _Setup(choice, token or new_token(), needs_vram_mb, ollama_env or {}, desk, teller)
    try:
        record, mbps = setup.on(booted)
    except BootFailed as error:
        remember(desk.ledger, rental, error)
        raise
    proven(desk.ledger, rental, mbps)
    return record


@dataclass(slots=True)
class _Setup:
    choice: BackendChoice
    token: str
    needs_vram_mb: int
    ollama_env: Mapping[str, str]
    desk: BootDesk
    teller: Teller

    def on(self, booted: Booted) -> tuple[NodeRecord, float | None]:
        """The record, and the speed of the download in Mbit/s."""
        for left in reversed(range(SESSIONS)):
            guard = PullWatch(self.teller, booted.session, self.desk.settings.vast_pull_stall_s)
            try:
                with guard:
                    return self._set_up(booted, guard), guard.mbps
            except LlmhostError as error:
                self._check_lost(error, booted.rental, guard, left)
            self.teller.note("the connection was lost, and is made again")
            booted = boot(booted.rental, self.desk, self.teller, alias=booted.alias, again=True)
        raise AssertionError  # the last one raised

    def _check_lost(self, error: LlmhostError, rental: Rental, guard: PullWatch, left: int) -> None:
        """Returns when the machine may go on over a new session. Raises BootFailed, Interrupted."""
        if self.desk.stop.is_set():
            raise Interrupted("interrupted while a machine was set up.") from error
        if guard.stalled:
            stalled = LlmhostError(
                f"its download of the model stands still for {guard.stall_s:.0f} s.", code="pull_stalled"
            )
            raise because(rental, stalled, "network") from error
        if isinstance(error, BootFailed):
            raise error
        if error.code != "connection_lost" or not left:
            _give_up(rental, error)

    def _set_up(self, booted: Booted, guard: PullWatch) -> NodeRecord:
        guard.phase("check", "looking at the machine")
        machine = inspect(booted.session)
        self._check_card(booted.rental, machine)
        plan = self._plan(booted, machine)
        record = replace(announced(plan, booted.rental.fleet), token=self.token)
        installed = install(plan, self.token, self.desk.settings, guard)
        self._check_model(booted, installed)
        installed = replace(installed, notes=(*installed.notes, *_guard_notes(booted)))
        return record_of(plan, record, installed, self.desk.paths)

    def _plan(self, booted: Booted, machine: Machine) -> NodePlan:
        transport = self.desk.settings.transport or default_transport()
        place = Place(booted.rental.node_id, booted.target, booted.alias, None, transport)
        return NodePlan(
            place,
            booted.session,
            machine,
            self.choice,
            "create",
            rental=booted.rental.label,
            ollama_env=self.ollama_env,
        )

    def _check_card(self, rental: Rental, machine: Machine) -> None:
        """The memory that was rented must be there: a card that fell off its bus leaves a machine that runs, and is slow."""
        if self.choice.backend != "ollama" or not self.needs_vram_mb:
            return
        if machine.gpu is None:
            why = f" ({machine.gpu_trouble.rstrip('.')})" if machine.gpu_trouble else ""
            raise BootFailed(f"{name_of(rental)} has no working graphics card{why}.", blame="host", code="gpu_lost")
        have = machine.vram_total_mb or 0
        if have + VRAM_SLACK_MB < self.needs_vram_mb:
            raise BootFailed(
                f"{name_of(rental)} has {have:,} MiB of graphics memory, and {self.needs_vram_mb:,} are needed.",
                blame="host",
                code="vram_short",
            )

    def _check_model(self, booted: Booted, installed: Installed) -> None:
        """Installed says what was meant; the node's Ollama says what is there."""
        if self.choice.backend != "ollama" or installed.model is None:
            return
        model = installed.model
        found = Agent(booted.session, installed.python, installed.folder).models()
        if not any(same_model(one["name"], model) for one in found):
            raise BootFailed(
                f"{name_of(booted.rental)} does not have {model} although it was pulled.",
                blame="host",
                code="model_missing",
            )


def _guard_notes(booted: Booted) -> list[str]:
    """Whether the machine can end itself, should nobody be there to do it (vast facts §4.4, §4.7). Raises SshFailure."""
    last = booted.session.run(_GUARD_ASKED, timeout_s=ASK_S).out.strip()
    if last and not last.startswith(GUARD_FAILED):
        return []
    why = f"its own key is not good for that ({shown(last)})" if last else "its start script did not get that far"
    return [
        f"the machine of {booted.rental.node_id} cannot end itself: {why}. It bills until llmhost ends it from here."
    ]


def _give_up(rental: Rental, error: LlmhostError) -> NoReturn:
    blame = _BLAME.get(error.code, "network" if isinstance(error, SshFailure) else "ours")
    if error.code.startswith("host_key_"):
        blame = "host"
    raise because(rental, error, blame) from error
