"""`up`: makes a plan hold, waits until it serves, and proves it. Doing it twice changes nothing."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmhost.core.ledger import Ledger
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.result import Result
from llmhost.fleet.commit import Desk, any_change, commit, gateway_token, start_ollama, undone_on_failure
from llmhost.fleet.desired import SUPERVISOR
from llmhost.fleet.plan import Plan
from llmhost.fleet.readiness import Wait, prove, ready_deadline
from llmhost.fleet.status import status
from llmhost.fleet.succession import replaced
from llmhost.providers.base import BackendChoice
from llmhost.providers.local import LocalProvider
from llmhost.providers.ollama_api import OllamaApi
from llmhost.supervisor.launch import ensure_supervisor, is_running

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

PULL = "pull"


def up(plan: Plan, settings: Settings, paths: Paths, progress: Progress) -> Result:
    """Carry out a plan of `make_plan`.

    `data` has `plan`, `nodes` and `gateway` (as `status` shows them), `changed` (False when everything was there already), `did` (the
    supervisor's children by what became of them) and `proof` (a real answer's text and milliseconds; None when nothing had to change).
    What the call started is undone when it fails or is interrupted. Raises NotReady, Unavailable, LlmhostError.
    """
    paths.create()
    with ExitStack() as stack:
        ledger = stack.enter_context(Ledger.open(paths.ledger_file))
        token = gateway_token(paths)
        started_here = not is_running(paths)
        progress.phase("supervisor", "starting the background supervisor" if started_here else "asking the supervisor")
        client = stack.enter_context(ensure_supervisor(paths, progress.note, module=SUPERVISOR))
        desk = Desk(ledger, client, settings, paths, token)
        with undone_on_failure(desk, progress, started_here=started_here):
            result = _carry_out(desk, plan, progress)
        # from here on nothing is undone: it serves
        replaced(desk, plan.leaving, progress).into(result)
        seen = status(settings, paths, plan.fleet).data
        result.data |= {"nodes": seen["fleet"]["nodes"], "gateway": seen["gateway"]}
        return result


def _carry_out(desk: Desk, plan: Plan, progress: Progress) -> Result:
    deadline = ready_deadline(desk.settings)
    wait = Wait(desk.client, desk.paths, progress, [plan.node_id], deadline)
    choice = _decide(desk, plan, wait, progress)
    starting = f"starting {choice.backend} behind the gateway"
    progress.phase("start", "looking at what runs" if plan.action == "keep" else starting)
    _node, did = commit(desk, plan, choice)
    progress.phase("ready", "waiting until it is ready")
    gateway = wait.until_ready()
    changed = any_change(did)
    proof = _prove(desk, gateway["port"], deadline, progress) if changed else None
    if not changed:
        progress.note("already up as asked for: nothing changed")
    data = {
        "plan": replace(plan, choice=choice).as_dict(),
        "changed": changed,
        "did": {name: did[name] for name in ("started", "replaced", "kept", "removed")},
        "proof": proof,
    }
    return Result(data, warnings=list(choice.notes))


def _decide(desk: Desk, plan: Plan, wait: Wait, progress: Progress) -> BackendChoice:
    """The plan's choice, with what could only be known once Ollama runs, and with its model on the disk."""
    choice = plan.choice
    if choice.pending:
        progress.phase("ollama", "starting Ollama")
        start_ollama(desk, choice)
        wait.until_ollama_answers(desk.settings.ollama_url)
        choice = _choose_again(desk, plan, choice)
    if choice.missing and choice.model:
        _pull(desk.settings.ollama_url, choice.model, progress)
        choice = _choose_again(desk, plan, choice)
    return choice


def _choose_again(desk: Desk, plan: Plan, choice: BackendChoice) -> BackendChoice:
    provider = LocalProvider(desk.settings.ollama_url, desk.settings.ollama_bin)
    again = provider.choose_model(plan.wish)
    return again if again.backend != choice.backend else replace(again, spec=choice.spec)


def _pull(url: str, model: str, progress: Progress) -> None:
    progress.phase(PULL, f"pulling {model}")

    def show(what: str, done: int, total: int | None) -> None:
        progress.transfer(PULL, f"{what} {model}" if what == "pulling" else what, done, total)

    OllamaApi(url).pull(model, show)


def _prove(desk: Desk, port: int, deadline: float, progress: Progress) -> dict[str, Any]:
    progress.phase("prove", "asking one real question")
    return prove(port, desk.token, deadline - time.monotonic())
