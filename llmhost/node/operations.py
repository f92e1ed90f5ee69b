"""What can be asked of a node. Every function may be called again, and by several callers at once."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmhost.core.errors import LlmhostError, UsageError
from llmhost.core.model_room import free_bytes, models_folder
from llmhost.core.ollama_models import same_model
from llmhost.node import release, supervision, surroundings
from llmhost.node.keep import Keep
from llmhost.node.layout import Layout
from llmhost.node.ollama_models import in_use
from llmhost.node.ollama_models import remove as delete_model
from llmhost.node.services import OLLAMA, PROXY, SERVICES, ollama_address, specs_of
from llmhost.node.wish import NodeWish, load_json, load_wish, save_json
from llmhost.supervisor.client import SupervisorEnded
from llmhost.supervisor.launch import find_supervisor

POLL_S = 0.05
RELEASES = "releases"
LEAVING = ".leaving"
_LAST = ("current", RELEASES, "state")


def apply(layout: Layout, wish: NodeWish, wait_s: float = 0.0) -> dict[str, Any]:
    """Run this from now on, and remember it.

    Without a `server` only Ollama is (re)started and the proxy, if there is one, stays. Waits up to `wait_s` until every service
    answers, or one fails. → `{proxy_socket, proxy_port, ollama_url, pid, did, children}`. Raises LlmhostError.
    """
    with supervision.turn(layout):
        merged = wish.merged_over(load_wish(layout.wish_file))
        if load_json(layout.wish_file) != merged.as_dict():
            save_json(layout.wish_file, merged.as_dict())
        did = _run(layout, merged)
    return _outcome(layout, merged, did, wait_s)


def start(layout: Layout, wait_s: float = 0.0) -> dict[str, Any]:
    """As `apply`, with what was remembered. Raises LlmhostError (`nothing_wished`)."""
    with supervision.turn(layout):
        wish = _remembered(layout)
        did = _run(layout, wish)
    return _outcome(layout, wish, did, wait_s)


def restart(layout: Layout, services: Iterable[str], wait_s: float = 0.0) -> dict[str, Any]:
    """Replace the processes of these services; answers under way may finish first. Raises UsageError, LlmhostError (`not_running_here`)."""
    with supervision.turn(layout):
        wish, keep = _remembered(layout), Keep.load(layout)
        here = {OLLAMA: wish.ollama.mode == "serve", PROXY: wish.server is not None}
        for service in services:
            if service not in SERVICES:
                raise UsageError(f"{service!r} is no service of a node.", hint="There are: proxy, ollama.")
            if not here[service]:
                raise _not_ours(service, wish)
            keep.runs[service] = keep.runs.get(service, 0) + 1
        keep.save(layout)
        did = _run(layout, wish)
    return _outcome(layout, wish, did, wait_s)


def status(layout: Layout) -> dict[str, Any]:
    """What runs, from the supervisor's memory; starts nothing. `supervisor` None = none runs."""
    wish = load_wish(layout.wish_file)
    told = _told(layout)
    known: dict[str, Any] = {"supervisor": None, "children": [], "gpu": None, "release": None}
    if told is not None:
        lib = release.running_lib(layout, told["pid"])
        known = {
            "supervisor": {name: told[name] for name in ("pid", "version", "started_at")},
            "children": told["children"],
            "gpu": told["gpu"],
            "release": release.name_of(lib) if lib else None,
        }
    return {**known, **_places(layout, wish), "wish": wish.shown() if wish else None}


def stop(layout: Layout) -> dict[str, Any]:
    """End everything that was started here. → `{stopped, left}`, the latter pids that run even so."""
    if not layout.state_dir.exists():
        return {"stopped": True, "left": []}
    with supervision.turn(layout):
        left = supervision.end(layout)
    return {"stopped": not left, "left": left}


def remove(layout: Layout) -> dict[str, Any]:
    """Stop, and delete the folder. → `{removed, left, kept}`; `kept` are sentences about what stays on the machine."""
    kept = surroundings.what_stays(layout)
    if not layout.state_dir.exists():
        _delete(layout)
        return {"removed": True, "left": [], "kept": kept}
    # Nobody else may change what runs until all is gone.
    with supervision.turn(layout):
        left = supervision.end(layout)
        _delete(layout)
    if left:
        kept.append(f"processes that did not end: {', '.join(map(str, left))}")
    return {"removed": True, "left": left, "kept": kept}


def _delete(layout: Layout) -> None:
    """The whole folder; the code last, so that after an interruption the same command can be given again."""
    try:
        places = [layout.run_dir, *(layout.folder.iterdir() if layout.folder.exists() else ())]
        for place in sorted(places, key=lambda place: place.name in _LAST):
            _delete_one(place)
        if layout.folder.exists():
            layout.folder.rmdir()
        _remove_empty(layout.folder)
    except OSError as error:
        raise LlmhostError(
            f"cannot delete {layout.folder}: {error.strerror or error}.",
            hint="Delete what is left of it by hand: llmhost ssh",
            code="state_unwritable",
        ) from error


def _delete_one(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        # Under another name at once: a release that is half deleted must not be taken for one that is there.
        shutil.rmtree(place.rename(place.with_name(f"{place.name}{LEAVING}")) if place.name == RELEASES else place)
    else:
        place.unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    """The folders above that were made for nodes alone (~/.llmhost/nodes), once the last node is gone."""
    for above, name in zip(folder.parents, ("nodes", ".llmhost"), strict=False):
        if above.name != name:
            return
        with contextlib.suppress(OSError):  # others live there
            above.rmdir()


def ollama_of(layout: Layout) -> str:
    """`host:port` of the Ollama server this node uses. Raises LlmhostError (`no_ollama`)."""
    wish = load_wish(layout.wish_file)
    address = ollama_address(wish.ollama, Keep.load(layout).ports) if wish else None
    if address is None:
        raise LlmhostError("this node has no Ollama.", hint="llmhost up --backend ollama", code="no_ollama")
    return address


def served(layout: Layout) -> dict[str, Any]:
    """`{served, disk_free}`: the model that the proxy here answers with (None = its own choice), and the bytes free for others."""
    wish = load_wish(layout.wish_file)
    backend = ((wish.server if wish else None) or {}).get("backend") or {}
    return {"served": backend.get("model"), "disk_free": models_room(layout)}


def models_room(layout: Layout) -> int | None:
    """Bytes free where the node's Ollama keeps its models; None when that is not known."""
    wish = load_wish(layout.wish_file)
    if wish is None or wish.ollama.mode == "none":
        return None
    ours = Keep.load(layout).models if wish.ollama.mode == "serve" else None
    named = wish.ollama.env.get("OLLAMA_MODELS") or ours
    return free_bytes(Path(named) if named else models_folder())


def remove_model(layout: Layout, model: str) -> dict[str, Any]:
    """→ as `ollama_models.remove`. Raises LlmhostError (`model_in_use`) for the one that is served, Unavailable."""
    ours = served(layout)["served"]
    if ours and same_model(ours, model):
        raise in_use(model)
    return delete_model(ollama_of(layout), model)


def _remembered(layout: Layout) -> NodeWish:
    wish = load_wish(layout.wish_file)
    if wish is None:
        raise LlmhostError(
            f"the node in {layout.folder} was never told what to run.", hint="llmhost up", code="nothing_wished"
        )
    return wish


def _run(layout: Layout, wish: NodeWish) -> dict[str, Any]:
    found = supervision.ensure(layout)
    with found.client as client:
        specs = specs_of(wish, surroundings.place_of(layout, wish, client))
        did = client.ask("apply", children=[spec.as_dict() for spec in specs])
        return {
            "supervisor": found.how,
            "pid": client.pid,
            **{name: did[name] for name in ("started", "replaced", "kept", "removed")},
        }


def _outcome(layout: Layout, wish: NodeWish, did: dict[str, Any], wait_s: float) -> dict[str, Any]:
    pid = did.pop("pid")
    return {**_places(layout, wish), "pid": pid, "did": did, "children": _settled(layout, wait_s)}


def _places(layout: Layout, wish: NodeWish | None) -> dict[str, Any]:
    ports = Keep.load(layout).ports
    address = ollama_address(wish.ollama, ports) if wish else None
    return {
        "proxy_socket": str(layout.proxy_socket),
        "proxy_port": ports.get(PROXY) if wish and wish.tcp else None,
        "ollama_url": f"http://{address}" if address else None,
    }


def _settled(layout: Layout, wait_s: float) -> list[dict[str, Any]]:
    """The children as soon as all answer or one does not stay up, at the latest after `wait_s`."""
    deadline = time.monotonic() + wait_s
    while True:
        children = _children(layout)
        states = {child["state"] for child in children}
        if states <= {"up"} or "failed" in states or time.monotonic() > deadline:
            return children
        time.sleep(POLL_S)


def _children(layout: Layout) -> list[dict[str, Any]]:
    children: list[dict[str, Any]] = (_told(layout) or {}).get("children", [])
    return children


def _told(layout: Layout) -> dict[str, Any] | None:
    """The supervisor's status; None when none runs, or when it is being stopped just now."""
    client = find_supervisor(layout.paths, supervision.ANSWER_S)
    if client is None:
        return None
    with client, contextlib.suppress(SupervisorEnded):
        return client.ask("status")
    return None


def _not_ours(service: str, wish: NodeWish) -> LlmhostError:
    if service == OLLAMA and wish.ollama.mode == "use":
        why = f"the Ollama at {wish.ollama.url} was there before llmhost and is not run by it."
        return LlmhostError(
            why, hint="Restart it as it was started, for example: systemctl restart ollama", code="not_ours"
        )
    return LlmhostError(f"this node runs no {service}.", hint="llmhost status", code="not_ours")
