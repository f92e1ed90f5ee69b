"""What the watch remembers over its own restarts, and `status` reads: what it told already, and since when a fleet is idle.

A small file beside the ledger, without secrets. One that cannot be read or written costs a warning told twice, and nothing else.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from llmhost.core.paths import Paths
from llmhost.fleet.rented.idle import Activity

NAME = "watch.json"
# More than a fleet has in a month; the oldest go first.
TOLD_KEPT = 200


@dataclass(slots=True)
class Memory:
    """`told` are keys of warnings, oldest first; `activity` and `idle_since` (RFC 3339) by fleet."""

    told: list[str] = field(default_factory=list)
    activity: dict[str, Activity] = field(default_factory=dict)
    idle_since: dict[str, str] = field(default_factory=dict)

    def first_time(self, key: str) -> bool:
        """Whether this was not told before; now it was."""
        if key in self.told:
            return False
        self.told = [*self.told, key][-TOLD_KEPT:]
        return True

    def forget(self, fleets: set[str]) -> None:
        """Keep what is about these fleets."""
        self.activity = {name: one for name, one in self.activity.items() if name in fleets}
        self.idle_since = {name: one for name, one in self.idle_since.items() if name in fleets}


def place(paths: Paths) -> Path:
    return paths.state_dir / NAME


def load(paths: Paths) -> Memory:
    """As it was kept; an empty one when there is none."""
    try:
        data: Any = json.loads(place(paths).read_text())
        activity = {str(name): Activity(one["at"], dict(one["counts"])) for name, one in data["activity"].items()}
        return Memory([str(key) for key in data["told"]], activity, dict(data["idle_since"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Memory()


def keep(memory: Memory, paths: Paths) -> bool:
    """Write it down, whole or not at all; whether it could be."""
    path = place(paths)
    fresh = path.with_name(f"{NAME}.{os.getpid()}")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(memory), file)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        return False
    return True
