"""How far the boot of a rented machine is, told to whoever watches and to the ledger, where `status` reads it."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass, field
from typing import Literal

from llmhost.core.errors import LlmhostError
from llmhost.core.ledger import Ledger
from llmhost.core.progress import Progress

Phase = Literal["booting", "ssh", "ollama", "model", "proxy"]
# A transfer tells many times a second; the ledger hears of it as often as somebody would look.
KEPT_EVERY_S = 1.0
# The phases of the bootstrap that all nodes share, as those of a rental.
_OF_BOOTSTRAP: dict[str, Phase] = {
    "check": "ollama",
    "bundle": "ollama",
    "ollama": "ollama",
    "pull": "model",
    "start": "proxy",
    "ready": "proxy",
}


@dataclass(slots=True)
class Teller:
    """A Progress for one rental; its codes may be those of the bootstrap. May be called from any thread.

    The ledger is only told: that it cannot be written ends no boot. `engine` False = the node has no Ollama, so it is never said to be
    at it.
    """

    ledger: Ledger
    label: str
    progress: Progress
    engine: bool = True
    _last: tuple[str, str | None] = ("", None)
    _kept_at: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def phase(self, code: str, text: str) -> None:
        self.progress.phase(code, text)
        self._keep(code, text, at_once=True)

    def detail(self, code: str, text: str) -> None:
        """The phase goes on, and is at something else."""
        if self._keep(code, text, at_once=True):
            self.progress.phase(code, text)

    def transfer(self, code: str, text: str, done: int, total: int | None) -> None:
        share = f"{text} {100 * done // total} %" if total else text
        self._keep(code, share, at_once=bool(total) and done == total)
        self.progress.transfer(code, text, done, total)

    def note(self, text: str) -> None:
        self.progress.note(text)

    def _keep(self, code: str, text: str, *, at_once: bool) -> bool:
        """Whether it was news."""
        phase = self._phase_of(code)
        with self._lock:
            now = time.monotonic()
            if (phase, text) == self._last or not (at_once or now - self._kept_at >= KEPT_EVERY_S):
                return False
            self._last, self._kept_at = (phase, text), now
            with contextlib.suppress(LlmhostError):
                self.ledger.rentals.tell(self.label, phase, text)
        return True

    def _phase_of(self, code: str) -> str:
        phase = _OF_BOOTSTRAP.get(code, code)
        return "proxy" if phase == "ollama" and not self.engine else phase
