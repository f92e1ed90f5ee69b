"""Provider `ssh`: machines that are the user's already, reached over SSH, for nothing. Pure: the machines are looked at elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llmhost.providers.base import DEFAULT_CONTEXT, BackendChoice, BackendWish, Offer
from llmhost.providers.model_choice import FAVOURITE, context_notes

# Weights of 17.3 GiB, a window of 65,536 tokens at 8 bits of 3.2 GiB and the engine's own buffers (vast facts §4.3, backend facts §4.1).
FAVOURITE_VRAM_MB = 23_000
SPARE = "llmhost up --provider ssh --host {host} --backend ollama --model NAME"


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What was found on a host. `host` as the user would write it; `gpu` None = none; memory in MiB, None = not said."""

    host: str
    gpu: str | None = None
    vram_total_mb: int | None = None

    @property
    def has_room(self) -> bool:
        """Whether the favourite model fits into the memory of its graphics cards."""
        return self.gpu is not None and (self.vram_total_mb or 0) >= FAVOURITE_VRAM_MB


@dataclass(frozen=True, slots=True)
class SshProvider:
    """The hosts that were named."""

    hosts: Sequence[HostFacts]
    name: str = "ssh"

    def offers(self) -> list[Offer]:
        return [Offer(host.host, self.name, host.gpu, 0.0) for host in self.hosts]

    def choose(self, wish: BackendWish) -> BackendChoice:
        """What would serve on the first host; `choose_for` knows each."""
        return choose_for(self.hosts[0], wish)


def choose_for(host: HostFacts, wish: BackendWish) -> BackendChoice:
    """What serves on a host.

    As asked; else the favourite model where a GPU has room for it; else the rehearsal backend, for want of something better. Whether
    Ollama is there already or has to be installed makes no difference here.
    """
    if wish.backend == "rehearsal":
        return BackendChoice("rehearsal", "asked for by name", wish.model, wish.context)
    if wish.model:
        return _ollama(host, wish, wish.model, "asked for by name")
    if host.has_room:
        return _ollama(host, wish, FAVOURITE, "the recommended model, for which the GPU has room")
    if wish.backend == "ollama":
        return _ollama(host, wish, FAVOURITE, "the recommended model")
    return _stopgap(host, wish)


def _ollama(host: HostFacts, wish: BackendWish, model: str, why: str) -> BackendChoice:
    context = wish.context or DEFAULT_CONTEXT
    notes = [*_machine_notes(host, model), *context_notes(model, wish.context, None, context)]
    return BackendChoice("ollama", why, model, context, missing=True, notes=tuple(notes))


def _machine_notes(host: HostFacts, model: str) -> list[str]:
    if host.gpu is None:
        return [f"{host.host} has no GPU: {model} will run on its CPU, which takes minutes for a first answer."]
    if model == FAVOURITE and not host.has_room:
        have = f"{host.vram_total_mb or 0:,} MiB"
        return [
            f"the {host.gpu} of {host.host} has {have} and {model} wants {FAVOURITE_VRAM_MB:,}: a part of it runs on the CPU."
        ]
    return []


def _stopgap(host: HostFacts, wish: BackendWish) -> BackendChoice:
    command = SPARE.format(host=host.host)
    lack = "no GPU" if host.gpu is None else f"too little GPU memory for {FAVOURITE}"
    note = (
        f"{host.host} has {lack}, so it rehearses: no model is behind its answers. For a model all the same: {command}"
    )
    choice = BackendChoice("rehearsal", f"{host.host} has {lack}", None, wish.context)
    return replace(choice, fallback=True, notes=(note,))
