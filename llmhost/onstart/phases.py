"""What a rented machine's log tells of its onstart script: the lines it prints, among whatever else is in there."""

from __future__ import annotations

import re
from dataclasses import dataclass

MARK = "LLMHOST-"
# A log may have a time in front of each line, and control characters of others in it.
_PHASE = re.compile(r"LLMHOST-PHASE ([a-z-]+)\s*$", re.MULTILINE)
_HOST_KEY = re.compile(r"LLMHOST-HOSTKEY ((?:ssh|ecdsa|sk)-[\w@.-]+) ([A-Za-z0-9+/]+=*)\s*$", re.MULTILINE)
_GUARD = re.compile(r"LLMHOST-GUARD ([^\n]*?)\s*$", re.MULTILINE)

BEGUN = "begun"
OLLAMA = "ollama"
OLLAMA_LATER = "ollama-later"
PULL = "pull"
PULLED = "pulled"
NODE = "node"
NODE_UP = "node-up"
DONE = "done"


@dataclass(frozen=True, slots=True)
class Told:
    """What the script told since the container's last start.

    `phases` in order; `host_keys` as (type, base64), each once; `guard` is the dead-man switch's last word: `ok` (its key may end the
    instance), `failed WHY`, or `idle|contact|ends STATUS` (it is ending the instance); None = nothing yet.
    """

    phases: tuple[str, ...] = ()
    host_keys: tuple[tuple[str, str], ...] = ()
    guard: str | None = None

    @property
    def done(self) -> bool:
        return DONE in self.phases

    @property
    def guarded(self) -> bool | None:
        """Whether the dead-man switch works; None = not known yet."""
        return None if self.guard is None else not self.guard.startswith("failed")


def read(log: str) -> Told:
    """Find the marks in a container's log, since the last `begun`. A log whose beginning was cut off is read from where it begins."""
    starts = [found.start() for found in _PHASE.finditer(log) if found[1] == BEGUN]
    text = log[starts[-1] :] if starts else log
    guard = _GUARD.findall(text)
    keys = dict.fromkeys((found[1], found[2]) for found in _HOST_KEY.finditer(text))
    phases = tuple(found[1] for found in _PHASE.finditer(text))
    return Told(phases, tuple(keys), guard[-1] if guard else None)
