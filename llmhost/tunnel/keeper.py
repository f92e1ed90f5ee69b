"""What a link does next (tunnel facts §3, D5): one round of looking after another, by one thread.

It never waits for the network: children and their heartbeats do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from llmhost.supervisor.logfile import EventLog
from llmhost.tunnel import sockets
from llmhost.tunnel.attempts import Attempts
from llmhost.tunnel.base import Reason
from llmhost.tunnel.behind import Behind
from llmhost.tunnel.generations import Generations
from llmhost.tunnel.spec import LinkSpec
from llmhost.tunnel.state import LinkState, Standing, silent
from llmhost.tunnel.wake import WakeWatch
from llmhost.tunnel.wishes import Taken

TICK_S = 1.0

# Why another connection is needed.
FIRST, ENDED, SILENT, REFRESH, NOTHING = "first", "ended", "silent", "refresh", ""


class Keeper:
    """Brings `generations` to what the spec asks for and says in `standing` how it stands. For one thread; others may read."""

    def __init__(
        self,
        spec: LinkSpec,
        events: EventLog,
        standing: Standing,
        generations: Generations,
        behind: Behind,
        wanted: Callable[[], bool],
    ) -> None:
        self.attempts = Attempts(spec.timing)
        self._spec = spec
        self._events = events
        self._standing = standing
        self._generations = generations
        self._behind = behind
        self._wanted = wanted
        self._wake = WakeWatch(spec.timing.woke_after)
        self._needs = FIRST
        self._must_renew = False  # the one in use will not do, however well it is

    @property
    def waits_for_try(self) -> bool:
        """Whether the next thing to do is another login, at `attempts.next_at`."""
        return bool(self._needs) and self._generations.rising is None and self._standing.trouble is None

    def look(self, now: float, told: Taken) -> None:
        """One round: what happened, what is wanted, and what follows from it."""
        if self._wake.woke():
            self._on_wake(now)
        news = told.renew or told.spec != self._spec
        if news:
            self._follow(told.spec, told.renew)
        if told.kicked or (news and self._needs):
            self._on_kick(now)
        self._look_at_current(now)
        self._look_at_rising(now)
        self._look_at_proxy()
        self._generations.sweep(now)
        if self.waits_for_try and now >= self.attempts.next_at:
            self._open(now)

    def pause(self, now: float) -> float:
        """Seconds until the next round, if nothing happens before."""
        times = [TICK_S]
        if self._generations.current is not None:
            times.append(self._generations.current.echo.due_in(now))
        if self.waits_for_try:
            times.append(self.attempts.next_at - now)
        return max(0.0, min(times))

    def _on_wake(self, now: float) -> None:
        """After a sleep: one echo within `woke_within`, and no other reaction; a login that was begun before may hang for long."""
        self._events.write("link_woke", link=self._spec.name)
        if self._generations.current is not None:
            self._generations.current.echo.woke(now)
        self._generations.give_up_rising()
        if self._needs:
            self.attempts.at_once(now)

    def _follow(self, spec: LinkSpec, renew: bool) -> None:
        old, self._spec = self._spec, spec
        self._move(Path(spec.local))
        self._behind.follow(spec)
        self.attempts.follow(spec.timing)
        self._wake.woke_after = spec.timing.woke_after
        differs = _connects_otherwise(old, spec)
        if differs:
            self._generations.give_up_rising()
        if differs or renew:
            self._renew()

    def _renew(self) -> None:
        self._must_renew = True
        self._needs = self._needs or REFRESH

    def _move(self, local: Path) -> None:
        try:
            self._generations.move(local)
        except OSError:
            self._renew()  # whose end tells the trouble

    def _on_kick(self, now: float) -> None:
        if self._standing.trouble is not None:
            self._renew()  # what was refused may be allowed to another login
            self._standing.set(self._state_without(), None)
        if self._needs:
            self.attempts.at_once(now)
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
            self.attempts.lost(now, self._wanted())
        if self._needs != SILENT:  # else the attempt for it is under way already
            self._needs = ENDED
        if self._standing.trouble is None:
            # This connection was let in once: only the next login can tell that none will be again.
            self._standing.set(LinkState.RECONNECTING, reason._replace(fatal=False))

    def _suspect(self, now: float) -> None:
        if self._needs in (NOTHING, REFRESH):
            if not self._needs:
                self.attempts.lost(now, self._wanted())
            self._needs = SILENT
            self._standing.set(LinkState.RECONNECTING, silent(self._spec))

    def _recover(self, now: float) -> None:
        """The one in use is heard again, before another was opened; which may be wanted all the same."""
        self._needs = REFRESH if self._must_renew else NOTHING
        if not self._needs:
            self._generations.give_up_rising()
            self.attempts.succeeded(now)
        self._standing.set(LinkState.UP, None)
        self._behind.prober.kick()

    def _look_at_rising(self, now: float) -> None:
        rising = self._generations.rising
        if rising is None:
            return
        if rising.ended:
            self._generations.rising = None
            self._fail(rising.reason(), now)
        elif rising.answers:
            self._take_over(now)
        elif now - rising.began_at > self._spec.timing.connect + self._spec.timing.echo_within:
            rising.kill()

    def _take_over(self, now: float) -> None:
        try:
            self._generations.promote(Path(self._spec.local), self._spec.timing.drain)
        except OSError as error:
            self._generations.give_up_rising()
            self._fail(Reason("socket_unusable", f"{self._spec.local}: {error.strerror or error}.", False), now)
            return
        why, self._needs, self._must_renew = self._needs, NOTHING, False
        self.attempts.succeeded(now)
        current = self._generations.current
        assert current is not None
        current.beat()  # the round-trip time
        self._standing.connected(current.pid, why, now - current.began_at)
        self._behind.connected(now)

    def _fail(self, reason: Reason, now: float) -> None:
        self.attempts.failed(now, self._wanted())
        if reason.fatal:
            self._standing.set(LinkState.FAILED, reason)
        elif self._needs != REFRESH:  # then the old one still serves
            self._standing.set(self._state_without(), reason)

    def _open(self, now: float) -> None:
        self.attempts.began(now)
        try:
            self._generations.open(self._spec)
        except OSError as error:
            text = f"{self._spec.ssh_program} cannot be started: {error.strerror or error}."
            self._fail(Reason("no_ssh", text, False), now)
            return
        rising = self._generations.rising
        self._standing.opening(rising.pid if rising else None, self._needs)

    def _look_at_proxy(self) -> None:
        current = self._generations.current
        if current is None or self._standing.trouble is not None or self._needs not in (NOTHING, REFRESH):
            return
        verdict = self._behind.verdict(current)
        if verdict is not None and not (verdict[0] is LinkState.FAILED and self._needs):
            self._standing.set(*verdict)  # what is final for this connection need not be for the one that is wanted
        elif verdict is None and self._behind.vanished:
            self._heal(Path(self._spec.local), current.local)

    def _heal(self, local: Path, socket_path: Path) -> None:
        """Somebody cleaned the runtime folder (systemd does at logout): only another connection makes another socket."""
        if not self._needs and not sockets.leads_to(local, socket_path):
            self._events.write("link_socket_vanished", link=self._spec.name)
            self._renew()

    def _state_without(self) -> LinkState:
        return LinkState.RECONNECTING if self._standing.was_up else LinkState.CONNECTING


def _connects_otherwise(old: LinkSpec, new: LinkSpec) -> bool:
    """Whether a running connection is not what the new spec asks for. Where an agent listens matters at the next login only."""
    alike = replace(new, probe=old.probe, local=old.local, timing=old.timing, agent=old.agent)
    return alike != old
