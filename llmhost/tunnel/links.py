"""All links of a supervisor, and what follows from their state for the gateway."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from llmhost.core.errors import LlmhostError, UsageError
from llmhost.supervisor.logfile import EventLog
from llmhost.tunnel import sockets
from llmhost.tunnel.base import Reason
from llmhost.tunnel.link import Link
from llmhost.tunnel.spec import TRANSPORTS, LinkSpec

# Longer than what a link gives its processes at the end; after it they are left to their lifeline.
CLOSE_S = 2.0


def _nobody() -> bool:
    return False


class Links:
    """The wanted links by name. Safe from any thread; nothing here waits for the network.

    Each link writes `<log_dir>/tunnel-NAME.log`. `on_change` is told after every change; `wanted` says whether somebody waits.
    """

    def __init__(
        self, run_dir: Path, log_dir: Path, on_change: Callable[[], None], wanted: Callable[[], bool] = _nobody
    ) -> None:
        self._run_dir = run_dir
        self._log_dir = log_dir
        self._on_change = on_change
        self._wanted = wanted
        self._lock = threading.Lock()
        self._links: dict[str, Link] = {}
        self._specs: dict[str, LinkSpec] = {}
        self._leaving: list[Link] = []
        self._closed = False
        # Its writing end is ours alone, and so ends with us, however we end.
        self._lifeline, self._lifeline_end = os.pipe()

    def start(self) -> list[str]:
        """Clean up after one that was killed; the names of what was removed."""
        return sockets.remove_stale(self._run_dir)

    def apply(self, specs: Iterable[LinkSpec], *, keep: bool = False) -> dict[str, list[str]]:
        """Want exactly these; with `keep`, those already wanted under the same name stay as they are. Raises LlmhostError (`stopping`).

        A changed one gets another connection before it loses the old, a removed one drains. The names by what becomes of them.
        """
        with self._lock:
            if self._closed:
                raise LlmhostError("the supervisor is stopping.", code="stopping")
            after = {spec.name: spec for spec in specs}
            if keep:
                after |= {name: spec for name, spec in self._specs.items() if name in after}
            before, self._specs = self._specs, after
            for name in before.keys() - after.keys():
                self._remove(name)
            for name, spec in after.items():
                self._want(name, spec)
        return _difference(before, after)

    def _want(self, name: str, spec: LinkSpec) -> None:
        link = self._links.get(name)
        if link is None:
            events = EventLog(self._log_dir / f"tunnel-{name}.log")
            link = Link(spec, self._run_dir, events, self._on_change, lifeline=self._lifeline, wanted=self._wanted)
            self._links[name] = link
            link.start()
        elif link.spec != spec:
            link.refresh(spec)

    def _remove(self, name: str) -> None:
        link = self._links.pop(name)
        link.close(link.spec.timing.drain)
        self._leaving = [one for one in self._leaving if not one.join(0)] + [link]

    def kick(self, name: str | None = None) -> list[str]:
        """Try at once, one or all; the names. Raises UsageError (`no_such_link`)."""
        return self._each(name, Link.kick)

    def refresh(self, name: str | None = None) -> list[str]:
        """Another connection for one or all, without need; the names. Raises UsageError (`no_such_link`)."""
        return self._each(name, Link.refresh)

    def _each(self, name: str | None, act: Callable[[Link], None]) -> list[str]:
        with self._lock:
            if name is not None and name not in self._links:
                raise UsageError(
                    f"there is no link {name!r}.", hint="See those there are: llmhost status", code="no_such_link"
                )
            chosen = [name] if name is not None else list(self._links)
            for one in chosen:
                act(self._links[one])
        return chosen

    def ask_anew(self) -> dict[str, float]:
        """Ask every node how it is; from when on an answer is fresh (see `view`)."""
        return {link.spec.name: link.prober.kick() for link in self._all() if link.is_connected}

    def view(self, asked: dict[str, float], deadline: float) -> list[dict[str, Any]]:
        """Every link, with answers to `ask_anew` as far as they come before `deadline` (monotonic); those that drain come last."""
        links = self._all()
        for link in links:
            if link.spec.name in asked and time.monotonic() < deadline:
                link.prober.wait_newer(asked[link.spec.name], deadline)
        return [link.view() for link in (*links, *self._still_leaving())]

    def trouble(self) -> dict[str, Reason]:
        """By name, why those links failed that will not come back by themselves."""
        return {link.spec.name: reason for link in self._all() if (reason := link.trouble)}

    def wanted(self) -> list[LinkSpec]:
        with self._lock:
            return list(self._specs.values())

    def pids(self) -> list[int]:
        """The processes of all, also of those that drain."""
        return [pid for link in (*self._all(), *self._still_leaving()) for pid in link.pids()]

    def close(self) -> None:
        """End all of them now."""
        with self._lock:
            self._closed = True
            links = [*self._links.values(), *self._leaving]
        for link in links:
            link.close()
        deadline = time.monotonic() + CLOSE_S
        for link in links:
            link.join(max(0.0, deadline - time.monotonic()))
        for end in (self._lifeline, self._lifeline_end):
            os.close(end)

    def _all(self) -> list[Link]:
        with self._lock:
            return list(self._links.values())

    def _still_leaving(self) -> list[Link]:
        with self._lock:
            self._leaving = [one for one in self._leaving if not one.join(0)]
            return list(self._leaving)


def read_specs(data: Iterable[dict[str, Any]]) -> list[LinkSpec]:
    """Specs that came over the control socket. Raises KeyError, TypeError, ValueError, or UsageError (`unknown_transport`)."""
    specs = [LinkSpec.from_dict(one) for one in data]
    for spec in specs:
        if spec.transport not in TRANSPORTS:
            hint = f"There are: {', '.join(TRANSPORTS)}."
            raise UsageError(f"{spec.transport!r} is no transport.", hint=hint, code="unknown_transport")
    return specs


def _difference(before: dict[str, LinkSpec], after: dict[str, LinkSpec]) -> dict[str, list[str]]:
    both = [name for name in after if name in before]
    return {
        "started": [name for name in after if name not in before],
        "replaced": [name for name in both if before[name] != after[name]],
        "kept": [name for name in both if before[name] == after[name]],
        "removed": [name for name in before if name not in after],
    }
