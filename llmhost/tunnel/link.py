"""One node's link: kept up, and replaced before it breaks. The thread, and what others see and ask; what it does is the keeper's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from llmhost.supervisor.logfile import EventLog
from llmhost.supervisor.prober import Prober
from llmhost.tunnel.base import Reason
from llmhost.tunnel.behind import Behind
from llmhost.tunnel.generations import Generations
from llmhost.tunnel.keeper import TICK_S, Keeper
from llmhost.tunnel.spec import LinkSpec
from llmhost.tunnel.state import LinkState, Standing
from llmhost.tunnel.wishes import Wishes

CLOSING_S = 0.5


def _nobody() -> bool:
    return False


class Link:
    """Keeps `spec` connected from `start` to `close`. Every method may be called from any thread and none waits for the network.

    `lifeline` is a descriptor that ends when this process does. `on_change` is called after every change of state and of processes;
    `wanted` says whether somebody waits for an answer, which shortens the pauses.
    """

    def __init__(
        self,
        spec: LinkSpec,
        run_dir: Path,
        events: EventLog,
        on_change: Callable[[], None],
        *,
        lifeline: int,
        wanted: Callable[[], bool] = _nobody,
    ) -> None:
        self._wishes = Wishes(spec)
        self._standing = Standing(spec.name, events, on_change)
        self._generations = Generations(run_dir, lifeline, self._wishes.poke, self._standing.said)
        self._behind = Behind(spec, lambda: self._generations.current, self._wishes.poke)
        self._keeper = Keeper(spec, events, self._standing, self._generations, self._behind, wanted)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"link {spec.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._behind.start()

    @property
    def spec(self) -> LinkSpec:
        """What is wanted; the thread follows at once."""
        return self._wishes.spec

    def kick(self) -> None:
        """Try now, also after a final failure; a link that is up is asked for an echo."""
        self._wishes.kick()

    def refresh(self, spec: LinkSpec | None = None) -> None:
        """Follow another spec; without one, open another connection though nothing is wrong. Running streams go on."""
        if spec is None:
            self._wishes.renew()
        else:
            self._wishes.follow(spec)

    def close(self, drain_s: float = 0.0) -> None:
        """No new streams; those that run may go on for `drain_s`, less if that is said later. `join` waits for the end."""
        self._wishes.leave(time.monotonic() + drain_s)

    def join(self, timeout_s: float) -> bool:
        """Whether everything of it ended within the time."""
        return self._over.wait(timeout_s)

    @property
    def prober(self) -> Prober:
        """Asks the node's proxy."""
        return self._behind.prober

    @property
    def state(self) -> LinkState:
        return self._standing.state

    @property
    def trouble(self) -> Reason | None:
        """Why it failed for good; None while it may come back by itself."""
        return self._standing.trouble

    @property
    def is_connected(self) -> bool:
        """Whether a connection is in use."""
        current = self._generations.current
        return current is not None and not current.ended

    def pids(self) -> list[int]:
        """Its processes."""
        return self._generations.pids()

    def view(self) -> dict[str, Any]:
        """What `status` shows; times are RFC 3339, `reading` the node proxy's last word about itself or None."""
        current, reading, now = self._generations.current, self.prober.reading, time.monotonic()
        rtt_s = current.echo.rtt_s if current else None
        next_at, heard_at = self._keeper.attempts.next_at, self._generations.heard_at()
        waits = self._keeper.waits_for_try and next_at > now
        return {
            "name": self.spec.name,
            **self._standing.view(),
            "transport": self.spec.transport,
            "local": f"unix:{self.spec.local}",
            "rtt_ms": None if rtt_s is None else round(rtt_s * 1000, 1),
            "attempts": self._keeper.attempts.failures,
            "next_try_at": _rfc3339(next_at - now) if waits else None,
            "last_ok_at": _rfc3339(heard_at - now) if heard_at else None,
            "reading": reading.data if reading and current and isinstance(reading.data, dict) else None,
            "pid": current.pid if current else None,
        }

    def _run(self) -> None:
        while self._wishes.leave_by is None:
            self._keeper.look(time.monotonic(), self._wishes.take())
            self._wishes.wait(self._keeper.pause(time.monotonic()))
        self._behind.stop()
        self._leave()

    def _leave(self) -> None:
        """Let go of everything, gently until `leave_by`, which may still come nearer."""
        self._generations.retire_all()
        self._standing.set(LinkState.DRAINING, None)
        soonest = time.monotonic() + CLOSING_S
        self._await_end(lambda: max(soonest, self._wishes.leave_by or 0.0))
        self._generations.kill_all()
        latest = time.monotonic() + CLOSING_S
        self._await_end(lambda: latest)
        self._over.set()
        self._standing.set(LinkState.STOPPED, None)

    def _await_end(self, deadline: Callable[[], float]) -> None:
        while self._generations.alive() and (left := deadline() - time.monotonic()) > 0:
            self._wishes.wait(min(left, TICK_S))


def _rfc3339(from_now_s: float) -> str:
    moment = datetime.now(UTC) + timedelta(seconds=from_now_s)
    return moment.isoformat(timespec="milliseconds")
