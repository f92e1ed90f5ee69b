"""Whether there is an Ollama, and the model that is wanted in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmhost.core.errors import LlmhostError
from llmhost.fleet.check import Check, failed, ok, warn
from llmhost.providers.base import BackendWish
from llmhost.providers.local import PULL_COMMAND, LocalProvider
from llmhost.providers.ollama_api import OllamaApi, same_model

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

REHEARSAL = "llmhost up --provider local --backend rehearsal"


def check_ollama(settings: Settings) -> Check:
    """What the backend `ollama` would find. Without Ollama the rehearsal backend serves, so that is only a failure if Ollama is wanted."""
    try:
        api = OllamaApi(settings.ollama_url)
        if api.answers():
            return _models(settings, api)
        return _to_be_started(settings)
    except LlmhostError as error:
        return failed("ollama", error.message, error.hint)


def _models(settings: Settings, api: OllamaApi) -> Check:
    names = [model.name for model in api.models()]
    found = f"answers at {api.url} with {len(names)} model{'' if len(names) == 1 else 's'}"
    if settings.model and not any(same_model(name, settings.model) for name in names):
        return warn(
            "ollama",
            f"{found}; {settings.model} is not among them",
            f"llmhost up --provider local --model {settings.model}",
        )
    if not names:
        return warn("ollama", found, PULL_COMMAND)
    return ok("ollama", f"{found}: {', '.join(names[:5])}")


def _to_be_started(settings: Settings) -> Check:
    wish = BackendWish(backend="ollama")
    try:
        choice = LocalProvider(settings.ollama_url, settings.ollama_bin).choose(wish)
    except LlmhostError as error:
        state = failed if settings.backend == "ollama" else warn
        return state("ollama", error.message, error.hint)
    return ok("ollama", choice.why)
