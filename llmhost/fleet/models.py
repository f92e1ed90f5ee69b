"""`llmhost models`: which models the nodes have, fetching one, deleting one; several nodes at once."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmhost.core.errors import LlmhostError, NothingSuitable
from llmhost.core.gpu import read_gpu
from llmhost.core.guard_files import Touch
from llmhost.core.ledger import NodeRecord
from llmhost.core.model_room import refuse_beyond
from llmhost.core.ollama_models import full_name, same_model
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.result import Result
from llmhost.fleet.choosing import node_named
from llmhost.fleet.commit import no_fleet
from llmhost.fleet.desired import is_remote, serving
from llmhost.fleet.model_fit import fit, min_vram_mb
from llmhost.fleet.model_shelf import Shelf, shelf_of
from llmhost.fleet.node_progress import Board
from llmhost.fleet.observed import observe
from llmhost.fleet.plan import recorded
from llmhost.fleet.rented import in_use
from llmhost.fleet.together import SeveralFailed, at_once
from llmhost.fleet.visit import Visits

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

PULL = "pull"
# A node proxy looks at its Ollama every 5 s, the gateway at its nodes every 2 s.
KNOWN_WITHIN_S = 15.0
POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class ModelDesk:
    """Where the commands find what they need. `known_within_s` = how long to wait until the gateway offers what was pulled."""

    settings: Settings
    paths: Paths
    progress: Progress
    known_within_s: float = KNOWN_WITHIN_S


def list_models(desk: ModelDesk, names: Sequence[str] = ()) -> Result:
    """`data` = `{models, nodes}`.

    `models`: `{node, name, size, parameters, chat, tools, max_context, served, loaded, context, vram}`: sizes in bytes, parameters in
    billions, windows in tokens; `served` = what the node answers with when no other is named, `context` and `vram` (bytes) of a
    loaded one. `nodes`: `{id, backend, disk_free}` in bytes. A node that cannot be asked is an error beside what the others say. Raises
    NotReady (`no_fleet`), UsageError (`no_such_node`).
    """
    nodes = _nodes(desk, names)
    served = _served(desk)
    with Visits(desk.settings, desk.paths) as visits:
        found = at_once(nodes, lambda node: _listed(node, visits, served.get(node.id)), abort=visits.close)
    answered = [one for one in found if not isinstance(one, LlmhostError)]
    models = [row for rows, _shelf in answered for row in rows]
    return _result({"models": models, "nodes": [shelf for _rows, shelf in answered]}, nodes, found)


def pull_model(desk: ModelDesk, model: str, names: Sequence[str] = ()) -> Result:
    """Fetch a model, on these nodes or on all that run Ollama; afterwards it can be asked for by its name.

    `data` = `{model, pulled: [{node, fetched}]}`; `fetched` False = it was there. A node on which it fails is an error beside the others.
    Raises NothingSuitable (`model_too_big`) before anything is fetched where a disk or a graphics card cannot hold it.
    """
    nodes = _with_ollama(desk, names)
    board, use = Board(desk.progress), in_use.mark(desk.paths)
    with Visits(desk.settings, desk.paths) as visits:
        checked = at_once(nodes, lambda node: _room(node, visits, model), abort=visits.close)
        _raise_first(checked, NothingSuitable)
        ready = [one for one in checked if not isinstance(one, LlmhostError)]
        desk.progress.phase(PULL, f"pulling {model} on {', '.join(one.node.id for one in ready) or 'no node'}")
        fetched = at_once(ready, lambda one: one.pull(model, board, use), abort=visits.close)
    outcome = dict(zip([one.node.id for one in ready], fetched, strict=True))
    found = [outcome.get(node.id, told) for node, told in zip(nodes, checked, strict=True)]
    done = [{"node": id, "fetched": told} for id, told in outcome.items() if not isinstance(told, LlmhostError)]
    warnings = [note for one in ready for note in one.notes]
    if any(one["fetched"] for one in done):
        _await_offer(desk, model)
    return _result({"model": full_name(model), "pulled": done}, nodes, found, warnings)


def remove_model(desk: ModelDesk, model: str, names: Sequence[str] = ()) -> Result:
    """Delete a model from the disks of these nodes, or of all that run Ollama.

    `data` = `{model, removed: [{node, removed, freed}]}` in bytes; `removed` False = it was not there. Raises LlmhostError
    (`model_in_use`) before anything is deleted when one of the nodes serves it, (`model_unknown`) when no node has it.
    """
    nodes = _with_ollama(desk, names)
    served = _served(desk)
    users = [node.id for node in nodes if same_model(served.get(node.id) or node.model or "", model)]
    if users:
        raise _in_use(model, users)
    with Visits(desk.settings, desk.paths) as visits:
        found = at_once(nodes, lambda node: shelf_of(node, visits).remove(model), abort=visits.close)
    removed = [
        {"node": node.id, "removed": freed is not None, "freed": freed or 0}
        for node, freed in zip(nodes, found, strict=True)
        if not isinstance(freed, LlmhostError)
    ]
    if removed and len(removed) == len(nodes) and not any(one["removed"] for one in removed):
        raise _unknown(model)
    return _result({"model": full_name(model), "removed": removed}, nodes, found)


@dataclass(frozen=True, slots=True)
class _Room:
    """A node that has room for the model. `notes` are sentences about what it will be like there."""

    node: NodeRecord
    shelf: Shelf
    there: bool
    notes: tuple[str, ...] = ()

    def pull(self, model: str, board: Board, use: Touch) -> bool:
        if self.there:
            return False
        line = board.node(self.node.id)

        def show(what: str, done: int, total: int | None) -> None:
            use.touch()
            line.transfer(PULL, f"{what} {model}" if what == "pulling" else what, done, total)

        return self.shelf.pull(model, show)


def _room(node: NodeRecord, visits: Visits, model: str) -> _Room:
    """Look before the download. Raises NothingSuitable (`model_too_big`), Unavailable, SshFailure."""
    shelf = shelf_of(node, visits)
    if any(same_model(row["name"], model) for row in shelf.rows()):
        return _Room(node, shelf, True)
    vram = _vram_mb(node)
    notes: tuple[str, ...] = ()
    if vram is not None:
        fitting = fit(model, vram)  # raises when not even the smallest window of use fits
        if node.context and min_vram_mb(model, node.context) > vram:
            notes = (
                f"on {node.id} a part of {model} will run on the CPU: with the node's window of {node.context:,} tokens it needs "
                f"{min_vram_mb(model, node.context):,} MiB of {vram:,}; {fitting.context:,} tokens would fit.",
            )
    refuse_beyond(model, _download(model), shelf.free())
    return _Room(node, shelf, False, notes)


def _download(model: str) -> int:
    """Bytes, as far as the model's name tells; 0 when it does not: then the pull's first line will."""
    from llmhost.core.model_catalog import facts

    size = facts(model)
    # An estimate from a name is no reason to refuse: what it really takes is known once the pull begins.
    return 0 if size.estimated else round((size.weights_gb or 0.0) * 1e9)


def _vram_mb(node: NodeRecord) -> int | None:
    """MiB of the node's graphics cards; None = no card, or not known: then nothing is refused for it."""
    if not is_remote(node):
        card = read_gpu()
        return card.vram_total_mb if card else None
    machine = node.spec.get("machine") or {}
    return machine.get("vram_total_mb") if machine.get("gpu") else None


def _listed(node: NodeRecord, visits: Visits, served: str | None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    if node.backend != "ollama":
        return [], {"id": node.id, "backend": node.backend, "disk_free": None}
    shelf = shelf_of(node, visits)
    rows = [_shown(node, row, served or node.model or "") for row in shelf.rows()]
    rows.sort(key=lambda row: (not row["served"], row["name"]))
    return rows, {"id": node.id, "backend": node.backend, "disk_free": shelf.free()}


def _shown(node: NodeRecord, row: dict[str, Any], served: str) -> dict[str, Any]:
    kept = {name: row.get(name) for name in ("name", "size", "parameters", "chat", "tools", "max_context")}
    loaded = {"loaded": row.get("loaded_context") is not None, "context": row.get("loaded_context")}
    return {
        "node": node.id,
        **kept,
        "served": bool(served) and same_model(row["name"], served),
        **loaded,
        "vram": row.get("loaded_vram"),
    }


def _nodes(desk: ModelDesk, names: Sequence[str]) -> list[NodeRecord]:
    if names:
        return [node_named(desk.settings, desk.paths, name) for name in dict.fromkeys(names)]
    nodes = serving([node for node in recorded(desk.paths)[0] if node.fleet == desk.settings.fleet])
    if not nodes:
        raise no_fleet(desk.settings.fleet)
    return nodes


def _with_ollama(desk: ModelDesk, names: Sequence[str]) -> list[NodeRecord]:
    nodes = _nodes(desk, names)
    able = [node for node in nodes if node.backend == "ollama"]
    if names or able:
        return nodes if names else able
    raise LlmhostError(
        "no node of this fleet runs Ollama.", hint="llmhost up --backend ollama --model NAME", code="no_ollama"
    )


def _served(desk: ModelDesk) -> dict[str, str]:
    """What each node answers with, as the gateway knows it: a node may have chosen for itself. Nothing without a gateway."""
    gateway = observe(desk.paths, desk.settings.fleet).children.get("gateway") or {}
    readings = (gateway.get("reading") or {}).get("nodes") or []
    return {one["id"]: one["model"] for one in readings if isinstance(one, dict) and one.get("model")}


def _await_offer(desk: ModelDesk, model: str) -> None:
    """Until the gateway offers the model: whoever pulls one asks for it next. Without a gateway there is nothing to wait for."""
    from llmhost.fleet.access import offered_model

    deadline = time.monotonic() + desk.known_within_s
    with contextlib.suppress(LlmhostError):
        while time.monotonic() < deadline and offered_model(desk.settings, desk.paths, model) is None:
            time.sleep(POLL_S)


def _result(
    data: dict[str, Any], nodes: list[NodeRecord], found: Sequence[Any], warnings: Sequence[str] = ()
) -> Result:
    """What went well, with what did not as errors that say where. Raises when nothing went well."""
    failed = [(node, one) for node, one in zip(nodes, found, strict=True) if isinstance(one, LlmhostError)]
    if failed and len(failed) == len(nodes):
        each = [error for _node, error in failed]
        raise each[0] if len(each) == 1 else SeveralFailed(each)
    errors = [{**error.as_dict(), "message": f"{node.id}: {error.message}"} for node, error in failed]
    return Result(data, list(warnings), errors, failed[0][1].exit_code if failed else 0)


def _raise_first(found: Sequence[Any], kind: type[LlmhostError]) -> None:
    first = next((one for one in found if isinstance(one, kind)), None)
    if first is not None:
        raise first


def _in_use(model: str, nodes: list[str]) -> LlmhostError:
    return LlmhostError(
        f"{', '.join(nodes)} {'serves' if len(nodes) == 1 else 'serve'} {model!r}.",
        hint="Serve another one first: llmhost up --model OTHER",
        code="model_in_use",
    )


def _unknown(model: str) -> LlmhostError:
    return LlmhostError(f"no node has {model!r}.", hint="See what they have: llmhost models list", code="model_unknown")
