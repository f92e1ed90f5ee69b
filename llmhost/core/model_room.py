"""Whether a model fits on a disk: known from its first megabyte on, because Ollama tells the size of a file before it fetches it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from llmhost.core.errors import NothingSuitable

GB = 1e9
# What a disk needs beside a model, in bytes: manifests, logs, whatever else the machine does.
SPARE = 500_000_000
# Where the packages of Linux distributions and Ollama's own installer keep the models of the service.
SERVICE_MODELS = Path("/usr/share/ollama/.ollama/models")

FreeBytes = Callable[[], int | None]


def free_bytes(folder: Path | None) -> int | None:
    """What is free where `folder` is or would be; None when that cannot be told."""
    if folder is None:
        return None
    for place in (folder, *folder.parents):
        if place.is_dir():
            try:
                return shutil.disk_usage(place).free
            except OSError:
                return None
    return None


def models_folder(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Where an Ollama server of this machine most likely has its models; None when it has none we know of."""
    if environ.get("OLLAMA_MODELS"):
        return Path(environ["OLLAMA_MODELS"])
    known = (Path.home() / ".ollama" / "models", SERVICE_MODELS)
    return next((folder for folder in known if folder.is_dir()), None)


def refuse_beyond(model: str, needed: int, free: int | None) -> None:
    """Raises NothingSuitable (`model_too_big`) when `needed` more bytes are not to be had; nothing is known of a `free` of None."""
    if free is None or needed + SPARE <= free:
        return
    raise NothingSuitable(
        f"{model!r} does not fit on the disk: {needed / GB:.1f} GB are needed and {free / GB:.1f} GB are free.",
        hint="Make room: llmhost models list, then llmhost models rm NAME; or choose a smaller model",
        code="model_too_big",
    )
