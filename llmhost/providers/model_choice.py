"""Which of the models that are there serves Claude Code best. Pure: the facts come in as values."""

from __future__ import annotations

from collections.abc import Callable

from llmhost.core.errors import LlmhostError
from llmhost.providers.base import COMFORTABLE_CONTEXT, DEFAULT_CONTEXT
from llmhost.providers.ollama_api import InstalledModel, ModelFacts, same_model

FAVOURITE = "qwen3-coder:30b"
_CODE_WORDS = ("coder", "code", "devstral", "codestral")


def best_model(installed: list[InstalledModel], facts: Callable[[str], ModelFacts]) -> InstalledModel | None:
    """The favourite if it is there, else among those that can call tools a coder before others and a larger before a smaller one.

    `facts` is asked about each model once; one it cannot tell about (LlmhostError) is passed over.
    """
    for model in installed:
        if same_model(model.name, FAVOURITE):
            return model
    able = [model for model in installed if _can_call_tools(model, facts)]
    return max(able, key=_rank, default=None)


def _can_call_tools(model: InstalledModel, facts: Callable[[str], ModelFacts]) -> bool:
    try:
        return facts(model.name).tools
    except LlmhostError:
        return False


def _rank(model: InstalledModel) -> tuple[bool, float, int, str]:
    coder = any(word in model.name.lower() for word in _CODE_WORDS)
    return coder, model.parameters or 0.0, model.size_bytes, model.name


def choose_context(wished: int | None, loaded: int | None, most: int | None) -> int:
    """The window in tokens: as wished, else the loaded one (another would reload the model), else 65,536; at most the model's."""
    window = wished or loaded or DEFAULT_CONTEXT
    return min(window, most) if most else window


def context_notes(model: str, wished: int | None, most: int | None, chosen: int) -> list[str]:
    """Sentences about a window that is not what one might expect."""
    notes = []
    if wished and most and wished > most:
        notes.append(f"{model} has a window of at most {most} tokens, so {wished} become {chosen}.")
    if chosen < COMFORTABLE_CONTEXT:
        notes.append(
            f"a window of {chosen} tokens is too small for Claude Code to work well: its first request alone takes about 11,200. "
            f"64,000 is the floor: llmhost up --provider local --context {DEFAULT_CONTEXT}"
        )
    return notes
