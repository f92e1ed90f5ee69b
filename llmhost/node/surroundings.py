"""The machine as the services find it: ports, memory, graphics card, the folder of models; and what of it stays when a node is removed."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from llmhost.core.gpu import TIMEOUT_S, GpuFigures, read_gpu
from llmhost.node import release
from llmhost.node.keep import Keep
from llmhost.node.layout import Layout
from llmhost.node.services import OLLAMA, PROXY, Place
from llmhost.node.wish import NodeWish, load_wish
from llmhost.supervisor.client import SupervisorClient

MIB = 1024 * 1024
CARD_S = TIMEOUT_S + 2.0


def place_of(layout: Layout, wish: NodeWish, client: SupervisorClient) -> Place:
    """Where the wish's services run. What was decided once is kept, so that asking again gives the same processes."""
    keep = Keep.load(layout)
    ours = _listening(client)
    if wish.ollama.mode == "serve":
        keep.port(OLLAMA, ours)
        keep.models = keep.models or str(_models_dir(layout))
        # One look that fails must not restart Ollama with other settings: a card that was seen once counts.
        if not (keep.has_gpu and keep.vram_mb) and (card := _card()) is not None:
            keep.has_gpu, keep.vram_mb = True, card.vram_total_mb or keep.vram_mb
    if wish.tcp:
        keep.port(PROXY, ours)
    keep.save(layout)
    return Place(
        layout=layout,
        python=sys.executable,
        lib=release.own_lib(),
        models=keep.models,
        ports=keep.ports,
        runs=keep.runs,
        has_gpu=keep.has_gpu,
        memory_mb=_memory_mb(),
        vram_mb=keep.vram_mb or None,
    )


def _card() -> GpuFigures | None:
    """The card, if one answers. A program that hangs in a broken driver does not even end when it is killed: so it is not waited for."""
    seen: list[GpuFigures | None] = []
    looking = threading.Thread(target=lambda: seen.append(read_gpu()), daemon=True)
    looking.start()
    looking.join(CARD_S)
    return seen[0] if seen else None


def what_stays(layout: Layout) -> list[str]:
    """Sentences about what removing the node leaves on the machine."""
    wish = load_wish(layout.wish_file)
    if wish is None or wish.ollama.mode == "none":
        return []
    if wish.ollama.mode == "use":
        return [
            f"the Ollama at {wish.ollama.url}, which was there before, and all its models, also those that were pulled"
        ]
    kept = []
    models = wish.ollama.env.get("OLLAMA_MODELS") or Keep.load(layout).models
    if models and not Path(models).is_relative_to(layout.folder):
        kept.append(f"the models in {models}{_size_of(Path(models))}")
    if wish.ollama.bin and not Path(wish.ollama.bin).is_relative_to(layout.folder):
        kept.append(f"the program {wish.ollama.bin}")
    return kept


def _models_dir(layout: Layout) -> Path:
    """With the user's own models, if there are any, so that none is fetched twice; else in the node's folder."""
    theirs = Path.home() / ".ollama" / "models"
    ours_to_write = theirs.is_dir() and os.access(theirs, os.W_OK | os.X_OK)
    return theirs if ours_to_write else layout.models_dir


def _size_of(folder: Path) -> str:
    """` (3.2 GB)`; nothing when it is not there."""
    files = [path.lstat().st_size for path in folder.rglob("*") if path.is_file()]
    return f" ({sum(files) / 1e9:.1f} GB)" if files else ""


def _listening(client: SupervisorClient) -> set[int]:
    """The ports of what runs already. What ended may have done so because a stranger has its port."""
    running = {child["name"] for child in client.ask("status")["children"] if child["pid"]}
    ports = set()
    for spec in client.wanted():
        if spec.name not in running:
            continue
        address = spec.env.get("OLLAMA_HOST", "").rpartition(":")[2] or str((spec.config or {}).get("also_port") or "")
        if address.isdigit():
            ports.add(int(address))
    return ports


def _memory_mb() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // MIB
    except (ValueError, OSError):  # a system that does not name them
        return None
