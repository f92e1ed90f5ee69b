"""One node's link: kept up, and replaced before it breaks (tunnel facts §3, D5).

One thread decides, at least once a second and at once when something happens. It never waits for the network: children and their
heartbeats do.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from llmhost.supervisor.logfile import EventLog
from llmhost.supervisor.prober import Prober
from llmhost.tunnel import sockets
from llmhost.tunnel.attempts import Attempts
from llmhost.tunnel.base import Reason
from llmhost.tunnel.behind import Behind
from llmhost.tunnel.generations import Generations
from llmhost.tunnel.spec import LinkSpec
from llmhost.tunnel.state import LinkState, Standing, silent
from llmhost.tunnel.wake import WakeWatch

TICK_S = 1.0
CLOSING_S = 0.5

# Why another connection is needed.
FIRST, ENDED, SILENT, REFRESH, NOTHING = "first", "ended", "silent", "refresh", ""


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
        self.spec = spec
        self._events = events
        self._wanted = wanted
        self._changed = threading.Condition()
        self._happened = False
        self._next_spec: LinkSpec | None = None
        self._kicked = False
        self._leave_by: float | None = None
        self._standing = Standing(spec.name, events, on_change)
        self._attempts = Attempts(spec.timing)
        self._wake = WakeWatch(spec.timing.woke_after)
        self._generations = Generations(run_dir, lifeline, self._poke, self._standing.said)
        self._needs = FIRST
        self._behind = Behind(spec, lambda: self._generations.current, self._poke)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"link {spec.name}", daemon=True)

    # from outside

    def start(self) -> None:
        self._thread.start()
        self._behind.start()

    def kick(self) -> None:
        """Try now, also after a final failure; a link that is up is asked for an echo."""
        self._kicked = True
        self._poke()

    def refresh(self, spec: LinkSpec | None = None) -> None:
        """Follow another spec; without one, open another connection though nothing is wrong. Running streams go on."""
        self._next_spec = spec or self.spec
        self._poke()

    def close(self, drain_s: float = 0.0) -> None:
        """No new streams; those that run may go on for `drain_s`. `join` waits for the end."""
        self._leave_by = time.monotonic() + drain_s
        self._poke()

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
        return self._standing.reason if self._standing.state is LinkState.FAILED else None

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
        waits = self._needs and self._generations.rising is None and self.trouble is None
        heard_at = self._generations.heard_at()
        return {
            "name": self.spec.name,
            **self._standing.view(),
            "transport": self.spec.transport,
            "local": f"unix:{self.spec.local}",
            "rtt_ms": None if rtt_s is None else round(rtt_s * 1000, 1),
            "attempts": self._attempts.failures,
            "next_try_at": _rfc3339(self._attempts.next_at - now) if waits and self._attempts.next_at > now else None,
            "last_ok_at": _rfc3339(heard_at - now) if heard_at else None,
            "reading": reading.data if reading and current else None,
            "pid": current.pid if current else None,
        }

    # the thread

    def _run(self) -> None:
        while self._leave_by is None:
            self._look(time.monotonic())
            self._wait(self._pause(time.monotonic()))
        self._behind.stop()
        self._leave(self._leave_by)

    def _look(self, now: float) -> None:
        """One round: what happened, and what follows from it."""
        if self._wake.woke():
            self._on_wake(now)
        if self._next_spec is not None:
            self._take_spec(now)
        if self._kicked:
            self._on_kick(now)
        self._look_at_current(now)
        self._look_at_rising(now)
        self._look_at_proxy()
        self._generations.sweep(now)
        if self._waits_for_try() and now >= self._attempts.next_at:
            self._open(now)

    def _waits_for_try(self) -> bool:
        return bool(self._needs) and self._generations.rising is None and self.trouble is None

    def _on_wake(self, now: float) -> None:
        """After a sleep: one echo within `woke_within`, and no other reaction; a login that was begun before may hang for long."""
        self._events.write("link_woke", link=self.spec.name)
        if self._generations.current is not None:
            self._generations.current.echo.woke(now)
        self._generations.give_up_rising()
        if self._needs:
            self._attempts.at_once(now)

    def _take_spec(self, now: float) -> None:
        spec, self._next_spec = self._next_spec, None
        assert spec is not None
        old, self.spec = self.spec, spec
        self._move(Path(spec.local))
        self._behind.follow(spec)
        self._attempts.follow(spec.timing)
        self._wake.woke_after = spec.timing.woke_after
        if spec == old or _connects_otherwise(old, spec):
            self._needs = self._needs or REFRESH
            self._generations.give_up_rising()
        if self._needs:
            self._on_kick(now)

    def _move(self, local: Path) -> None:
        try:
            self._generations.move(local)
        except OSError:
            self._needs = self._needs or REFRESH  # whose end tells the trouble

    def _on_kick(self, now: float) -> None:
        self._kicked = False
        if self.trouble is not None:
            self._needs = self._needs or REFRESH  # what was refused may be allowed to another login
            self._standing.set(self._state_without(), None)
        if self._needs:
            self._attempts.at_once(now)
        elif self._generations.current is not None:
            self._generations.current.beat()

    def _look_at_current(self, now: float) -> None:
        current = self._generations.current
        if current is None:
            return
        if current.ended:
            self._lose(current.reason(), now)
            return
        if current.echo.lost(now):
            self._suspect(now)
        elif self._needs == SILENT:
            self._recover(now)
        if current.echo.due_in(now) <= 0:
            current.beat()

    def _lose(self, reason: Reason, now: float) -> None:
        self._generations.current = None
        if not self._needs:
            self._attempts.lost(now, self._wanted())
        if self._needs != SILENT:  # else the attempt for it is under way already
            self._needs = ENDED
        if self.trouble is None:
            # This connection was let in once: only the next login can tell that none will be again.
            self._standing.set(LinkState.RECONNECTING, reason._replace(fatal=False))

    def _suspect(self, now: float) -> None:
        if self._needs in (NOTHING, REFRESH):
            if not self._needs:
                self._attempts.lost(now, self._wanted())
            self._needs = SILENT
            self._standing.set(LinkState.RECONNECTING, silent(self.spec))

    def _recover(self, now: float) -> None:
        """The one in use is heard again, before another was opened."""
        self._generations.give_up_rising()
        self._needs = NOTHING
        self._attempts.succeeded(now)
        self._standing.set(LinkState.UP, None)
        self.prober.kick()

    def _look_at_rising(self, now: float) -> None:
        rising = self._generations.rising
        if rising is None:
            return
        if rising.ended:
            self._generations.rising = None
            self._fail(rising.reason(), now)
        elif rising.answers:
            self._take_over(now)
        elif now - rising.began_at > self.spec.timing.connect + self.spec.timing.echo_within:
            rising.kill()

    def _take_over(self, now: float) -> None:
        try:
            self._generations.promote(Path(self.spec.local), self.spec.timing.drain)
        except OSError as error:
            self._generations.give_up_rising()
            self._fail(Reason("socket_unusable", f"{self.spec.local}: {error.strerror or error}.", False), now)
            return
        why, self._needs = self._needs, NOTHING
        self._attempts.succeeded(now)
        current = self._generations.current
        assert current is not None
        current.beat()  # the round-trip time
        self._standing.connected(current.pid, why, now - current.began_at)
        self._behind.connected(now)

    def _fail(self, reason: Reason, now: float) -> None:
        self._attempts.failed(now, self._wanted())
        if reason.fatal:
            self._standing.set(LinkState.FAILED, reason)
        elif self._needs != REFRESH:  # then the old one still serves
            self._standing.set(self._state_without(), reason)

    def _open(self, now: float) -> None:
        self._attempts.began(now)
        try:
            self._generations.open(self.spec)
        except OSError as error:
            text = f"{self.spec.ssh_program} cannot be started: {error.strerror or error}."
            self._fail(Reason("no_ssh", text, False), now)
            return
        rising = self._generations.rising
        self._standing.opening(rising.pid if rising else None, self._needs)

    def _look_at_proxy(self) -> None:
        current = self._generations.current
        if current is None or self.trouble is not None or self._needs not in (NOTHING, REFRESH):
            return
        verdict = self._behind.verdict(current)
        if verdict is not None:
            self._standing.set(*verdict)
        elif self._behind.vanished:
            self._heal(Path(self.spec.local), current.local)

    def _heal(self, local: Path, socket_path: Path) -> None:
        """Somebody cleaned the runtime folder (systemd does at logout): only another connection makes another socket."""
        if not self._needs and not sockets.leads_to(local, socket_path):
            self._events.write("link_socket_vanished", link=self.spec.name)
            self._needs = REFRESH

    def _leave(self, until: float) -> None:
        """Let go of everything, gently until `until`."""
        self._generations.retire_all()
        self._standing.set(LinkState.DRAINING, None)
        self._await_end(max(until, time.monotonic() + CLOSING_S))
        self._generations.kill_all()
        self._await_end(time.monotonic() + CLOSING_S)
        self._over.set()
        self._standing.set(LinkState.STOPPED, None)

    def _await_end(self, deadline: float) -> None:
        while self._generations.alive() and (left := deadline - time.monotonic()) > 0:
            self._wait(min(left, TICK_S))

    def _pause(self, now: float) -> float:
        times = [TICK_S]
        if self._generations.current is not None:
            times.append(self._generations.current.echo.due_in(now))
        if self._waits_for_try():
            times.append(self._attempts.next_at - now)
        return max(0.0, min(times))

    def _wait(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._happened, seconds)
            self._happened = False

    def _poke(self) -> None:
        with self._changed:
            self._happened = True
            self._changed.notify_all()

    def _state_without(self) -> LinkState:
        return LinkState.RECONNECTING if self._standing.was_up else LinkState.CONNECTING


def _connects_otherwise(old: LinkSpec, new: LinkSpec) -> bool:
    """Whether a running connection is not what the new spec asks for. Where an agent listens matters at the next login only."""
    alike = replace(new, probe=old.probe, local=old.local, timing=old.timing, agent=old.agent)
    return alike != old


def _rfc3339(from_now_s: float) -> str:
    moment = datetime.now(UTC) + timedelta(seconds=from_now_s)
    return moment.isoformat(timespec="milliseconds")
