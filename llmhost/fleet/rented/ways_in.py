"""The login on a machine that runs: by the direct way first, by the market's proxy else, and only where the host key is the right one."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from llmhost.core.errors import Interrupted, LlmhostError
from llmhost.fleet.links import pins_of
from llmhost.fleet.rented.access_key import login
from llmhost.fleet.rented.addresses import targets, way_at
from llmhost.fleet.rented.boot_failure import BootFailed, because, name_of
from llmhost.fleet.rented.classify import Blame, Running
from llmhost.fleet.rented.host_key import Hunt, pin
from llmhost.fleet.rented.life import Life
from llmhost.fleet.rented.phases import Teller
from llmhost.ssh.dial import dial
from llmhost.ssh.failures import SshFailure, failure
from llmhost.ssh.identity import public_key
from llmhost.ssh.pins import Pins
from llmhost.ssh.session import Session
from llmhost.ssh.target import SshTarget

if TYPE_CHECKING:
    from llmhost.fleet.rented.boot import BootDesk

HostKey = Literal["log", "first", "known"]
# Shares of the time for SSH (180 s): 20 s for the direct way alone, as long for one attempt, 2 s between two, 10 s
# after a refused key, 60 s for the log to name the host key once somebody answers, and 30 s that must remain for a login without that.
DIRECT_SHARE = 1 / 9
ATTEMPT_SHARE = 1 / 9
PAUSE_SHARE = 1 / 90
REFUSED_SHARE = 1 / 18
KEY_SHARE = 1 / 3
LAST_SHARE = 1 / 6
SHORTEST_ATTEMPT_S = 3.0
_BANNER = b"SSH-"
# It is not let in yet: authorized keys arrive after sshd does (vast facts §4.6).
_NOT_YET = ("auth_refused", "password_only")
_ANOTHER_KEY = ("host_key_changed", "host_key_unknown")
_NO_WAY = ("name_unresolved", "host_unreachable")


@dataclass(frozen=True, slots=True)
class Entered:
    """A session, where it leads, and how its host key was learnt: from the container's log, by its first sight, or at an earlier login."""

    session: Session
    target: SshTarget
    host_key: HostKey


@dataclass(slots=True)
class WayIn:
    """The attempts to log in on one instance, in a row. `host_key` "known" = it is pinned already, from an earlier login."""

    life: Life
    desk: BootDesk
    teller: Teller
    alias: str
    host_key: HostKey = "first"
    _pins: Pins = field(init=False)
    _hunt: Hunt | None = None
    _deadline: float = 0.0
    _direct_until: float = 0.0
    _answered: tuple[SshTarget, float] | None = None
    _attached: bool = False
    _met_first: bool = False
    _trouble: SshFailure | None = None

    def __post_init__(self) -> None:
        self._pins = pins_of(self.desk.paths)

    def enter(self) -> Entered | None:
        """Log in within `vast_ssh_s`; None when the container stopped running meanwhile.

        Raises BootFailed (`host_key_changed`, `ssh_unreachable`, `ssh_refused`, and what the market says), Interrupted, SshFailure of our
        own key.
        """
        self.teller.phase("ssh", "waiting until it lets us in")
        now, budget = time.monotonic(), self.desk.settings.vast_ssh_s
        self._deadline, self._direct_until = now + budget, now + budget * DIRECT_SHARE
        try:
            return self._attempts(budget)
        finally:
            if self._hunt is not None:
                self._hunt.end()
                self._hunt = None

    def _attempts(self, budget: float) -> Entered | None:
        number = 0
        while (now := time.monotonic()) < self._deadline:
            ways = targets(self.life.instance, self.desk.settings.vast_ssh_user)
            way = way_at(ways, number, first_only=now < self._direct_until)
            entered = None if way is None else self._try(way)
            if entered is not None:
                return entered
            number += 1
            if not self._still_runs_after(budget * (REFUSED_SHARE if self._refused() else PAUSE_SHARE)):
                return None
        raise self._never()

    def _still_runs_after(self, pause_s: float) -> bool:
        """Pause before the next attempt, with an eye on the market. Raises BootFailed, Interrupted."""
        end = time.monotonic() + pause_s
        while isinstance(self.life.verdict, Running) and (left := end - time.monotonic()) > 0:
            self.life.look(left)
        return isinstance(self.life.verdict, Running)

    def _refused(self) -> bool:
        return self._trouble is not None and self._trouble.code in _NOT_YET

    def _try(self, way: SshTarget) -> Entered | None:
        """One attempt on one way."""
        try:
            if not self._may_log_in(way):
                return None
            session = self._connect(way)
        except SshFailure as error:
            self._failed(error)
            return None
        return Entered(session, way, self.host_key)

    def _connect(self, way: SshTarget) -> Session:
        """A session that runs commands. Raises SshFailure."""
        session = Session.connect(
            way,
            login(self.desk.paths),
            self._pins,
            self.alias,
            timeout_s=self._attempt_s(),
            on_first_key=self._met,
        )
        self.desk.visits.open.append(session)
        try:
            if self.desk.stop.is_set():
                raise Interrupted("interrupted while logging in.")
            session.run("true", timeout_s=self._attempt_s())
        except BaseException:
            session.close()
            with contextlib.suppress(ValueError):
                self.desk.visits.open.remove(session)
            raise
        return session

    def _may_log_in(self, way: SshTarget) -> bool:
        """Whether the host key is known by now, or has been waited for long enough. Raises SshFailure when nobody answers."""
        if self.host_key != "first" or self._learnt() or self._met_first:
            return True
        if self._answered is None:
            self._knock(way)  # once: sshd shuts out who hangs up on it often (PerSourcePenalties of sshd_config(5))
            self._answered = (way, time.monotonic())
        now, budget = time.monotonic(), self.desk.settings.vast_ssh_s
        enough = now >= min(self._answered[1] + budget * KEY_SHARE, self._deadline - budget * LAST_SHARE)
        if enough:
            self._favour_what_answered(now)
        return enough

    def _learnt(self) -> bool:
        """Whether the container's log names its host key by now, which is pinned then."""
        desk = self.desk
        if self._hunt is None:
            self._hunt = Hunt(desk.market, self.life.instance.id, desk.settings.vast_poll_s)
        keys = self._hunt.keys
        if keys:
            pin(self._pins, self.alias, keys)
            self.host_key = "log"
            self._favour_what_answered(time.monotonic())
        return bool(keys)

    def _favour_what_answered(self, now: float) -> None:
        """The wait for the key was no fault of the direct way."""
        direct = self.life.instance.direct
        if self._answered is not None and direct == (self._answered[0].host, self._answered[0].port):
            self._direct_until = max(self._direct_until, now + self.desk.settings.vast_ssh_s * DIRECT_SHARE)

    def _knock(self, way: SshTarget) -> None:
        """Whether an SSH server answers; nothing is said to it. Raises SshFailure."""
        connection = dial(way, self._attempt_s())
        try:
            heard = connection.recv(len(_BANNER))
        except TimeoutError as error:
            raise failure("connect_timeout", way, "the port is open, and no SSH server speaks") from error
        except OSError as error:
            raise failure("connection_lost", way, error.strerror or "") from error
        finally:
            connection.close()
        if heard != _BANNER[: len(heard)] or not heard:
            raise failure("connection_lost" if not heard else "not_ssh", way)

    def _met(self, fingerprint: str) -> None:
        """Trusted at first sight."""
        self._met_first = True
        self.teller.note(
            f"the machine's log does not name its host key, so the one it showed first is trusted: {fingerprint}"
        )

    def _failed(self, error: SshFailure) -> None:
        """Try again, unless trying cannot help."""
        rental = self.life.rental
        if error.code.startswith("key_"):
            raise error
        if error.code in _ANOTHER_KEY:
            raise because(rental, error, "host", code="host_key_changed") from error
        self._trouble = error
        if self._refused() and not self._attached:
            self._attached = True
            self._attach()
        self.teller.detail("ssh", error.message.rstrip("."))

    def _attach(self) -> None:
        """An account's keys are on machines that were rented after them, and not always (vast facts §7)."""
        identity = login(self.desk.paths).file
        with contextlib.suppress(LlmhostError):
            if identity is not None:
                self.desk.market.attach_key(self.life.instance.id, public_key(identity))

    def _attempt_s(self) -> float:
        share = max(self.desk.settings.vast_ssh_s * ATTEMPT_SHARE, SHORTEST_ATTEMPT_S)
        return min(self.desk.settings.node_connect_timeout_s, share)

    def _never(self) -> BootFailed:
        rental, trouble, budget = self.life.rental, self._trouble, self.desk.settings.vast_ssh_s
        if trouble is None:
            why, code = "the market names no address of it", "ssh_unreachable"
        else:
            why = trouble.message.rstrip(".")
            code = "ssh_refused" if self._refused() else "ssh_unreachable"
        blame: Blame = "network" if trouble is not None and trouble.code in _NO_WAY else "host"
        return BootFailed(
            f"{name_of(rental)} runs, and lets nobody in for {budget:.0f} s: {why}.", blame=blame, code=code
        )
