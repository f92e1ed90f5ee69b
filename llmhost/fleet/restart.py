"""`llmhost restart NODE`: its proxy, its Ollama, or both; waits until it answers again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import UsageError
from llmhost.core.ledger import Ledger, NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.result import Result
from llmhost.fleet.commit import Desk, gateway_token, hold, restart
from llmhost.fleet.desired import OLLAMA, PROXY, RUNS, SUPERVISOR, is_remote
from llmhost.fleet.links import kick
from llmhost.fleet.readiness import Wait, ready_deadline
from llmhost.fleet.status import status
from llmhost.fleet.visit import Visits
from llmhost.supervisor.launch import ensure_supervisor, is_running

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

# How long the node's agent waits for its own processes, in seconds; the model is waited for from here.
SETTLE_S = 10.0


def restart_node(
    node: NodeRecord, services: Sequence[str], settings: Settings, paths: Paths, progress: Progress
) -> Result:
    """Replace the processes of `services` (`proxy`, `ollama`; none named: all that llmhost runs there).

    `data` = `{node: as in status, restarted: [names]}`. Raises UsageError for what the node does not run, SshFailure, NotReady,
    LlmhostError.
    """
    wanted = list(services) or _run_by_us(node, settings, paths)
    progress.phase("restart", f"restarting {' and '.join(wanted)} of {node.id}")
    if is_remote(node):
        with Visits(settings, paths) as visits:
            visits.agent(node).restart(wanted, wait_s=SETTLE_S)
        if is_running(paths):
            with ensure_supervisor(paths, progress.note, module=SUPERVISOR) as client:
                kick(client)
                _wait(Wait(client, paths, progress, [node.id], ready_deadline(settings)), progress)
    else:
        _restart_here(node, wanted, settings, paths, progress)
    nodes = status(settings, paths, settings.fleet).data["fleet"]["nodes"]
    shown = next((one for one in nodes if one["id"] == node.id), None)
    return Result({"node": shown, "restarted": wanted})


def _run_by_us(node: NodeRecord, settings: Settings, paths: Paths) -> list[str]:
    """The services that can be restarted. An Ollama that was there before us is not ours to restart."""
    if not is_remote(node):
        return [OLLAMA, PROXY] if "ollama_bin" in node.spec else [PROXY]
    with Visits(settings, paths) as visits:
        children: list[dict[str, Any]] = visits.agent(node).status()["children"]
    names = {child["name"] for child in children}
    return [name for name in (OLLAMA, PROXY) if name in names] or [PROXY]


def _restart_here(
    node: NodeRecord, services: Sequence[str], settings: Settings, paths: Paths, progress: Progress
) -> None:
    if OLLAMA in services and "ollama_bin" not in node.spec:
        raise UsageError(
            f"the Ollama of {node.id} is not run by llmhost."
            if node.backend == "ollama"
            else f"{node.id} runs no Ollama.",
            hint="Restart it as it was started, for example: systemctl restart ollama",
            code="not_ours",
        )
    with Ledger.open(paths.ledger_file) as ledger, ensure_supervisor(paths, progress.note, module=SUPERVISOR) as client:
        desk = Desk(ledger, client, settings, paths, gateway_token(paths))
        restart(desk)  # what a crash took away comes back first
        gateway = ledger.gateway()
        assert gateway is not None, "restart raises without one"
        hold(desk, lambda nodes: [_run_again(one, services) if one.id == node.id else one for one in nodes], gateway)
        _wait(Wait(client, paths, progress, [node.id], ready_deadline(settings)), progress)


def _run_again(node: NodeRecord, services: Sequence[str]) -> NodeRecord:
    """Another run number makes another spec, and that another process."""
    runs = dict(node.spec.get(RUNS) or {})
    runs |= {service: runs.get(service, 0) + 1 for service in services}
    return replace(node, spec={**node.spec, RUNS: runs})


def _wait(wait: Wait, progress: Progress) -> None:
    progress.phase("ready", "waiting until it answers again")
    wait.until_ready()
