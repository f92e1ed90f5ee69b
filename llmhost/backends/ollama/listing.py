"""Which of the models that Ollama lists is the one that we serve."""

from __future__ import annotations

from typing import Any

from llmhost.backends.ollama import catalog
from llmhost.backends.ollama.codec import LoadedModel

MAX_OUTPUT = 32_000  # what Claude Code asks of a model it does not know


def is_named(model: dict[str, Any], name: str) -> bool:
    return catalog.full_name(str(model.get("name"))) == catalog.full_name(name)


def weights_of(model: dict[str, Any]) -> list[Any]:
    """What tells one file of weights from another, in `/api/tags` and `/api/ps` alike."""
    details = model.get("details") or {}
    return [details.get(key) for key in ("family", "parameter_size", "quantization_level")]


def entry_of(running: list[dict[str, Any]], name: str, weights: list[Any]) -> dict[str, Any] | None:
    """The loaded model of this name, or the one that serves for it.

    Two models made of the same weights share one engine, which `/api/ps` shows under the name it was first loaded for.
    """
    named = (model for model in running if is_named(model, name))
    same = (model for model in running if any(weights) and weights_of(model) == weights)
    return next(named, None) or next(same, None)


def tag_of(models: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(model for model in models if model.get("name") == name)


def loaded_model(
    name: str,
    tag: dict[str, Any],
    show: dict[str, Any],
    window: int,
    num_ctx: int | None,
    keep_alive: str | int,
    version: str,
) -> LoadedModel:
    able = catalog.capabilities(show)
    details = show.get("details") or {}
    return LoadedModel(
        name=name,
        digest=str(tag.get("digest") or ""),
        context=window,
        num_ctx=num_ctx,
        keep_alive=keep_alive,
        max_output=min(MAX_OUTPUT, window // 2),
        vision="vision" in able,
        tools="tools" in able,
        thinking="thinking" in able,
        family=str(details.get("family") or ""),
        format=str(details.get("format") or ""),
        renderer=catalog.modelfile_line(show, "renderer"),
        version=version,
        created_at=catalog.when(tag.get("modified_at")),
    )
