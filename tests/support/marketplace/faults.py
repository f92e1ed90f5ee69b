"""Which calls go wrong, and how often: rules by method and path, taken in the order they were made."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from typing import Any

from tests.support.marketplace.answers import Call
from tests.support.marketplace.fault_kinds import CHANGES, INSTEAD

ALWAYS = -1


@dataclass
class Fault:
    """`kind` is a name of `fault_kinds`. `path` is searched for in the path with its query (`instances/\\?.*after_token` is page two).

    `after`: the call is carried out first, and only its answer goes wrong. The first `skip` calls that match are left alone; then `count`
    of them are hit (`ALWAYS`: all). `options` are the kind's own.
    """

    kind: str
    method: str = ""
    path: str = ""
    count: int = 1
    after: bool = False
    skip: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    hits: int = 0

    def __post_init__(self) -> None:
        if self.kind not in INSTEAD and self.kind not in CHANGES and self.kind != "slow":
            raise ValueError(f"no such kind of fault: {self.kind}")
        self.after = self.after or self.kind in CHANGES

    @property
    def spent(self) -> bool:
        return self.hits == self.count

    def matches(self, call: Call, where: str) -> bool:
        return self.method in ("", call.method) and re.search(self.path, where) is not None

    def as_dict(self) -> dict[str, Any]:
        names = ("kind", "method", "path", "count", "after", "skip", "options", "hits")
        return {name: getattr(self, name) for name in names}


class Faults:
    """The rules in force. Spent ones stay listed, so that a test can see that they were hit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.rules: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        with self._lock:
            self.rules.append(fault)
        return fault

    def clear(self) -> None:
        with self._lock:
            self.rules.clear()

    def take(self, call: Call) -> Fault | None:
        """The first rule that hits this call, counted."""
        where = call.path + ("?" + "&".join(f"{k}={v}" for k, v in call.query.items()) if call.query else "")
        with self._lock:
            for fault in self.rules:
                if not fault.spent and fault.matches(call, where):
                    if fault.skip > 0:
                        fault.skip -= 1
                        continue
                    fault.hits += 1
                    return fault
        return None

    def unspent(self) -> list[Fault]:
        """Rules with a count that were not hit as often as they should have been: a test that ends so has not tested them."""
        return [fault for fault in self.rules if fault.count != ALWAYS and not fault.spent]
