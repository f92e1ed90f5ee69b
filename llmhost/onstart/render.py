"""From what a rented machine is to do at every start of its container to the text of its onstart script. Pure but for the template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_BYTES = 4_000  # 4,048 is the marketplace's silent limit (vast facts §0.7)


@dataclass(frozen=True, slots=True)
class EarlyOllama:
    """An Ollama that is installed, started and told to pull `model` before anybody logs in.

    `version` is what to install; `env` are the settings of `ollama serve` (llmhost.core.ollama_environment; OLLAMA_HOST is ignored);
    `install` is a POSIX shell command that replaces the built-in installation, with the variables of llmhost.bootstrap.ollama.install;
    `site` is where the built-in one downloads from. `model` None = pull nothing.
    """

    version: str
    model: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    install: str | None = None
    site: str = "https://ollama.com/download"


@dataclass(frozen=True, slots=True)
class BootScript:
    """What one rented machine does at every container start.

    `node_folder` is relative to the home; `public_key` is one line of authorized_keys; `api_url` is the marketplace's without a slash at
    its end. `lease_ends_at` is the hard end (seconds since 1970, None = none) for as long as the machine knows no other; after `contact_s`
    seconds without the operator and, unless None, `idle_s` without a request the machine destroys itself. It looks every `guard_every_s`.
    """

    node_folder: str
    public_key: str
    api_url: str
    contact_s: int
    lease_ends_at: int | None = None
    idle_s: int | None = None
    guard_every_s: int = 15
    ollama: EarlyOllama | None = None


def render(boot: BootScript) -> str:
    """The script. Raises LlmhostError (`onstart_too_long`) past MAX_BYTES."""
    raise NotImplementedError
