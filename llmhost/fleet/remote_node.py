"""One node over SSH: brought up, put back as it was, taken away."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmhost.bootstrap.install import Installed, Wish, bootstrap, node_folder
from llmhost.core.errors import LlmhostError
from llmhost.core.guard_files import ACTIVE
from llmhost.core.ledger import NodeRecord
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.secrets import new_token
from llmhost.fleet.desired import INSTALLING, PHASE, child_name
from llmhost.fleet.hosts import Place
from llmhost.fleet.remote_plan import NodePlan
from llmhost.fleet.sweep import NOT_INSTALLED, sweep
from llmhost.providers.base import BackendChoice
from llmhost.ssh.identity import is_locked, own_key, public_blob
from llmhost.ssh.session import Session

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

_FACTS = (
    "home",
    "platform",
    "python_version",
    "gpu",
    "driver",
    "vram_total_mb",
    "memory_mb",
    "disk_free_mb",
    "ollama_version",
)


def announced(plan: NodePlan, fleet: str) -> NodeRecord:
    """The record of a node that is about to be installed: enough to find it and take it away again."""
    place, old = plan.place, plan.place.record
    token = old.token if old else new_token()
    spec = {
        **_reached_by(plan),
        "folder": node_folder(place.alias),
        "python": plan.machine.python,
        PHASE: INSTALLING,
    }
    spec |= {"machine": _facts(plan), "home": plan.machine.home}
    return NodeRecord(
        place.node_id, fleet, plan.provider, plan.choice.backend, plan.choice.model, plan.choice.context, token, spec
    )


def install(plan: NodePlan, token: str, settings: Settings, progress: Progress) -> Installed:
    """Bring one up, or find that it is as it should be. Raises LlmhostError, SshFailure."""
    usual = wish_for(plan.place.node_id, plan.choice, token, plan.place.transport, settings, plan.ollama_env)
    wish = _for_guard(usual, plan.rental)
    folder = node_folder(plan.place.alias)
    try:
        return bootstrap(plan.session, folder, wish, progress)
    except LlmhostError as error:
        if error.code != NOT_INSTALLED or not sweep(plan.session, folder, plan.machine.python):
            raise
    progress.note("a removal was cut off here: setting it up anew")
    return bootstrap(plan.session, folder, wish, progress)


def put_back(session: Session, node: NodeRecord, settings: Settings, progress: Progress) -> None:
    """Run what the ledger says of a node that was changed. Raises LlmhostError, SshFailure."""
    choice = BackendChoice("ollama" if node.backend == "ollama" else "rehearsal", "", node.model, node.context)
    wish = wish_for(node.id, choice, node.token, node.spec["transport"], settings)
    bootstrap(session, node.spec["folder"], _for_guard(wish, node.spec.get("rental")), progress)


def wish_for(
    node_id: str,
    choice: BackendChoice,
    token: str,
    transport: str,
    settings: Settings,
    ollama_env: Mapping[str, str] | None = None,
) -> Wish:
    """What the bootstrap is told. The port beside the socket is for a transport that cannot reach a Unix socket."""
    return Wish(
        backend=choice.backend,
        token=token,
        node_id=node_id,
        model=choice.model,
        context=choice.context,
        pull=choice.missing,
        ollama_install=settings.ollama_install,
        ollama_env=ollama_env or {},
        server={"name": child_name(node_id), "timing": asdict(settings.timing()), "log_level": settings.log_level},
        tcp=transport == "sshtunnel",
    )


def _for_guard(wish: Wish, rental: str | None) -> Wish:
    """On a rented machine every request is a sign of life, for its dead-man switch."""
    return wish if rental is None else replace(wish, server={**wish.server, "activity_file": ACTIVE})


def record_of(plan: NodePlan, announced_as: NodeRecord, installed: Installed, paths: Paths) -> NodeRecord:
    """What the ledger keeps of a node that answers."""
    choice, place = plan.choice, plan.place
    spec: dict[str, Any] = {
        **_reached_by(plan),
        **_key_of(plan.session, place, paths),
        "folder": installed.folder,
        "python": installed.python,
        "remote_socket": installed.proxy_socket,
        "remote_port": installed.proxy_port,
        "machine": _facts(plan),
        "notes": list(installed.notes),
    }
    if choice.fallback:
        spec["fallback"] = True
    created = {"created_at": place.record.created_at} if place.record else {}
    model = installed.model if choice.backend == "ollama" else choice.model
    return NodeRecord(
        place.node_id,
        announced_as.fleet,
        plan.provider,
        choice.backend,
        model,
        choice.context,
        announced_as.token,
        spec,
        **created,
    )


def _key_of(session: Session, place: Place, paths: Paths) -> dict[str, Any]:
    """How a link logs in: `key` is the file of the key that let us in, None = one of the agent's; `agent` = it takes the agent."""
    if place.identity is not None:
        file = Path(place.identity)
        return {"key": str(file), "agent": is_locked(file)}
    own = own_key(paths)
    with_own = session.key == public_blob(own)
    return {"key": str(own.absolute()) if with_own else None, "agent": not with_own}


def _reached_by(plan: NodePlan) -> dict[str, Any]:
    place = plan.place
    return {
        **({} if plan.rental is None else {"rental": plan.rental}),
        "target": place.target.as_dict(),
        "identity": place.identity,
        "transport": place.transport,
        "alias": place.alias,
    }


def _facts(plan: NodePlan) -> dict[str, Any]:
    return {name: getattr(plan.machine, name) for name in _FACTS}
