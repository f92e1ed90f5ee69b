"""Provider `local`: this machine, as it is, for nothing.

What serves: an Ollama server that answers, else one that can be started here, else the rehearsal backend.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from llmhost.core import ollama_environment
from llmhost.core.addresses import is_loopback
from llmhost.core.errors import Unavailable
from llmhost.providers.base import BackendChoice, BackendWish, Offer
from llmhost.providers.model_choice import FAVOURITE, best_model, choose_context, context_notes
from llmhost.providers.ollama_api import InstalledModel, OllamaApi, same_model

PULL_COMMAND = f"llmhost up --provider local --model {FAVOURITE}"


@dataclass(frozen=True, slots=True)
class LocalProvider:
    """`ollama_url` is where Ollama answers or would be started; `ollama_bin` a program given by the user, None = look on PATH.

    `vram_mb` = MiB of the cards' memory, None = none, or not said.
    """

    ollama_url: str
    ollama_bin: str | None = None
    gpu: str | None = None
    name: str = "local"
    vram_mb: int | None = None

    def offers(self) -> list[Offer]:
        return [Offer("local", self.name, self.gpu, 0.0)]

    def choose(self, wish: BackendWish) -> BackendChoice:
        """See the module docstring; only a wish that cannot be met at all is an error (Unavailable)."""
        if wish.backend == "rehearsal":
            return _rehearsal(wish, "asked for by name")
        if OllamaApi(self.ollama_url).answers():
            return self.choose_model(wish)
        program = self._program()
        if program:
            return self._to_be_started(wish, program)
        if wish.backend == "ollama" or wish.pull:
            raise _no_ollama(self.ollama_url)
        note = f"no Ollama answers at {self.ollama_url} and none is installed. With Ollama: {PULL_COMMAND}"
        return replace(_rehearsal(wish, "no Ollama on this machine"), fallback=True, notes=(note,))

    def choose_model(self, wish: BackendWish) -> BackendChoice:
        """The choice among the models of the server that answers. Raises Unavailable when it stops answering."""
        api = OllamaApi(self.ollama_url)
        installed = api.models()
        if wish.model and wish.pull and not _find(installed, wish.model):
            return self._ollama(wish, wish.model, "asked for by name, to be pulled", missing=True)
        found = _find(installed, wish.model) if wish.model else None
        if found:
            return self._present(api, wish, found, "asked for by name")
        best = best_model(installed, api.facts)
        if best is None:
            return _nothing_usable(wish, self.ollama_url)
        why = "the recommended model" if same_model(best.name, FAVOURITE) else "the best one here that can call tools"
        choice = self._present(api, wish, best, why)
        return replace(choice, notes=(*_other_model_notes(wish, best.name), *choice.notes))

    def _present(self, api: OllamaApi, wish: BackendWish, model: InstalledModel, why: str) -> BackendChoice:
        facts = api.facts(model.name)
        context = choose_context(wish.context, api.loaded_context(model.name), facts.max_context)
        notes = context_notes(model.name, wish.context, facts.max_context, context)
        if not facts.tools:
            notes.insert(
                0, f"{model.name} cannot call tools, without which Claude Code can only talk. Better: {PULL_COMMAND}"
            )
        return self._ollama(replace(wish, context=context), model.name, why, notes=tuple(notes))

    def _ollama(self, wish: BackendWish, model: str | None, why: str, **more: Any) -> BackendChoice:
        return BackendChoice("ollama", why, model, wish.context, spec={"ollama_url": self.ollama_url}, **more)

    def _to_be_started(self, wish: BackendWish, program: str) -> BackendChoice:
        start = {
            "ollama_bin": program,
            "ollama_env": serve_environment(self.ollama_url, wish.context, self.gpu is not None, vram_mb=self.vram_mb),
        }
        choice = self._ollama(wish, wish.model, f"{program} is installed and will be started", pending=True)
        return replace(choice, spec={**choice.spec, **start})

    def _program(self) -> str | None:
        if not is_loopback(urlsplit(self.ollama_url).hostname or ""):
            return None
        return shutil.which(self.ollama_bin or "ollama")


def serve_environment(
    url: str,
    context: int | None,
    has_gpu: bool,
    environ: Mapping[str, str] | None = None,
    vram_mb: int | None = None,
) -> dict[str, str]:
    """The variables for `ollama serve`: ours, overruled by the user's own `OLLAMA_*`, the address aside."""
    given = os.environ if environ is None else environ
    theirs = {name: value for name, value in given.items() if name.startswith("OLLAMA_") and not name.endswith("KEY")}
    return ollama_environment.serve_environment(
        urlsplit(url).netloc, context, has_gpu=has_gpu, vram_mb=vram_mb, wished=theirs
    )


def _find(installed: list[InstalledModel], model: str) -> InstalledModel | None:
    return next((one for one in installed if same_model(one.name, model)), None)


def _rehearsal(wish: BackendWish, why: str) -> BackendChoice:
    return BackendChoice("rehearsal", why, wish.model if wish.backend == "rehearsal" else None, wish.context)


def _nothing_usable(wish: BackendWish, url: str) -> BackendChoice:
    if wish.backend == "ollama":
        raise Unavailable(
            f"Ollama at {url} has no model that can call tools.", hint=f"Pull one: {PULL_COMMAND}", code="no_model"
        )
    note = f"Ollama answers at {url} but has no model that can call tools. To pull one: {PULL_COMMAND}"
    return replace(_rehearsal(wish, "Ollama has no usable model"), fallback=True, notes=(note,))


def _other_model_notes(wish: BackendWish, chosen: str) -> list[str]:
    if wish.model:
        return [
            f"{wish.model} is not there, so {chosen} serves. To pull it: llmhost up --provider local --model {wish.model}"
        ]
    if same_model(chosen, FAVOURITE):
        return []
    return [f"no model was asked for and {FAVOURITE} is not there, so {chosen} serves. To pull it: {PULL_COMMAND}"]


def _no_ollama(url: str) -> Unavailable:
    return Unavailable(
        f"no Ollama answers at {url} and no program `ollama` is on PATH.",
        hint="Install Ollama, or set OLLAMA_HOST or LLMHOST_OLLAMA_BIN. Without a model: llmhost up --provider local --backend rehearsal",
        code="ollama_missing",
    )
