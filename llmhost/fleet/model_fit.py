"""Which window of a model fits into the memory of a card, told before anything is rented."""

from __future__ import annotations

from dataclasses import dataclass, field

from llmhost.core import model_catalog
from llmhost.core.errors import NothingSuitable
from llmhost.core.model_catalog import ModelSize
from llmhost.core.ollama_environment import DEFAULT_CONTEXT
from llmhost.fleet.rented import gpu_names
from llmhost.providers.base import COMFORTABLE_CONTEXT

# Windows that are loaded, largest first. Claude Code's first request alone takes 11,200 tokens, so less than 16,384 serves nobody
# (client facts §1.10).
STEPS = (262_144, 131_072, DEFAULT_CONTEXT, 32_768, 16_384)
LEAST_CONTEXT = STEPS[-1]


@dataclass(frozen=True, slots=True)
class Fit:
    """`context` in tokens, `needs_mb` MiB of graphics memory (None = not known), `env` more variables for Ollama, `notes` sentences."""

    context: int
    needs_mb: int | None = None
    env: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def fit(model: str, vram_mb: int, context: int | None = None) -> Fit:
    """The window of `model` on a card with `vram_mb` MiB: as asked, else the largest step that fits with an 8-bit cache.

    Raises NothingSuitable (`model_too_big`) when it does not fit, naming what would.
    """
    size = model_catalog.facts(model)
    window = _bounded(size, context) if context else _largest(size, vram_mb)
    needs = model_catalog.needs_mb(size, window)
    if needs is not None and needs > vram_mb:
        raise _too_big(size, vram_mb, window, context)
    return Fit(window, needs, notes=tuple(_notes(size, context, window)))


def min_vram_mb(model: str, context: int | None = None) -> int:
    """MiB that `model` takes at least: with that window, else with the least that is of use. 0 when the model is not known."""
    size = model_catalog.facts(model)
    return model_catalog.needs_mb(size, _bounded(size, context or LEAST_CONTEXT)) or 0


def _bounded(size: ModelSize, context: int) -> int:
    return min(context, size.max_context or context)


def _largest(size: ModelSize, vram_mb: int) -> int:
    if size.weights_gb is None or size.kv_bytes_per_token is None:
        return _bounded(size, DEFAULT_CONTEXT)
    for step in STEPS:
        window = _bounded(size, step)
        if (model_catalog.needs_mb(size, window) or 0) <= vram_mb:
            return window
    return _bounded(size, LEAST_CONTEXT)


def _notes(size: ModelSize, asked: int | None, window: int) -> list[str]:
    notes = []
    if size.weights_gb is None:
        notes.append(f"how large {size.name} is cannot be told beforehand; whether it fits is seen when it is loaded.")
    elif size.estimated:
        notes.append(f"the size of {size.name} is {size.source}.")
    if size.weights_gb is not None and size.kv_bytes_per_token is None:
        notes.append(f"how much memory the window of {size.name} takes is not known; it is not counted.")
    if asked and asked > window:
        notes.append(f"{size.name} has a window of at most {window} tokens, so {asked} become {window}.")
    if window < COMFORTABLE_CONTEXT:
        notes.append(
            f"a window of {window:,} tokens is too small for Claude Code to work well: its first request alone takes about 11,200, "
            f"and 64,000 is the floor."
        )
    return notes


def _too_big(size: ModelSize, vram_mb: int, window: int, asked: int | None) -> NothingSuitable:
    needs = model_catalog.needs_mb(size, window) or 0
    return NothingSuitable(
        f"{size.name} with a window of {window:,} tokens needs {needs:,} MiB of graphics memory, and the card has {vram_mb:,}.",
        hint=" ".join(_ways_out(size, vram_mb, needs, asked)),
        code="model_too_big",
    )


def _ways_out(size: ModelSize, vram_mb: int, needs: int, asked: int | None) -> list[str]:
    ways = []
    smaller = _largest(size, vram_mb)
    if asked and smaller < asked and (model_catalog.needs_mb(size, smaller) or 0) <= vram_mb:
        ways.append(f"This card takes --context {smaller}.")
    comfortable = model_catalog.needs_mb(size, _bounded(size, asked or DEFAULT_CONTEXT)) or needs
    cards = gpu_names.at_least(comfortable)
    if cards:
        ways.append(f"A larger card takes it: --gpu {cards[0]}{_others(cards[1:])}.")
    models = _smaller_models(size, vram_mb, asked)
    if models:
        ways.append(f"A smaller model fits: --model {models[0]}{_others(models[1:])}.")
    return ways or ["No single card is large enough, and no smaller model is known that fits here."]


def _smaller_models(than: ModelSize, vram_mb: int, asked: int | None) -> list[str]:
    """Coders that fit, the largest first, those with a comfortable window before the others."""
    smaller = [size for size in model_catalog.known() if (size.weights_gb or 0.0) < (than.weights_gb or 0.0)]
    windows = {size.name: _window_there(size, vram_mb, asked) for size in smaller if size.coder}
    fitting = [name for name, window in windows.items() if window]
    fitting.sort(key=lambda name: windows[name] >= COMFORTABLE_CONTEXT)  # stable: known() has the smallest first
    return fitting[::-1][:2]


def _window_there(size: ModelSize, vram_mb: int, asked: int | None) -> int:
    """The window that the card has room for; 0 = none, or less than was asked."""
    window = _largest(size, vram_mb)
    if size.kv_bytes_per_token is None or (model_catalog.needs_mb(size, window) or 0) > vram_mb:
        return 0
    return window if window >= (asked or 0) else 0


def _others(names: list[str]) -> str:
    return f" (or {', '.join(names)})" if names else ""
