"""The intervals of a backend in front of Ollama, in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from llmhost.backends.ollama.care import CLOSE_S, PROBE_S
from llmhost.backends.ollama.engine import HOLD_S, LOOK_S, POLL_S
from llmhost.backends.ollama.hall import GRACE_S

# For an answer to begin. A prompt may take a slow CPU longer; but the engine reads on, so that asking again costs nothing.
SILENT_S = 300.0


@dataclass(frozen=True, slots=True)
class Pace:
    """`poll_s` between looks at Ollama, `look_s` at most for one, `hold_s` at most that a request waits for a load; `probe_s`, `close_s`:

    see `Care`; `silent_s` without the beginning of an answer after which Ollama is checked; `grace_s`: see `Hall`.
    """

    poll_s: float = POLL_S
    look_s: float = LOOK_S
    hold_s: float = HOLD_S
    probe_s: float = PROBE_S
    close_s: float = CLOSE_S
    silent_s: float = SILENT_S
    grace_s: float = GRACE_S
