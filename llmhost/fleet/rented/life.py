"""One booting instance as the market shows it: waited for until it runs, and known to have failed as soon as the market says so."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmhost.core.errors import AuthenticationNeeded, Interrupted, LlmhostError
from llmhost.core.rentals import Rental
from llmhost.fleet.rented.boot_failure import SILENT, BootFailed, failed, name_of
from llmhost.fleet.rented.classify import (
    ALL_STOPPED,
    Failed,
    Patience,
    Progressing,
    Running,
    Story,
    classify,
)
from llmhost.fleet.rented.phases import Teller
from llmhost.fleet.rented.watchtower import Sighting
from llmhost.providers.market import Instance

if TYPE_CHECKING:
    from llmhost.fleet.rented.boot import BootDesk

WAIT_S = 1.0
# So many answers missing make a gap, of which nothing is known.
GAP_POLLS = 3
WAITING = "waiting for the machine"


@dataclass(slots=True)
class Life:
    """Follows what the watchtower sees of a rental's instance. `instance` is the newest that is known, `verdict` what it means."""

    rental: Rental
    desk: BootDesk
    teller: Teller
    story: Story
    sighting: Sighting
    instance: Instance = field(init=False)
    verdict: Progressing | Running = field(default_factory=lambda: Progressing(WAITING))
    _heard_at: float = field(default_factory=time.monotonic)
    _absent_since: float | None = None
    _absences: int = 0

    def __post_init__(self) -> None:
        self.instance = Instance(self.rental.instance_id or 0)

    @classmethod
    def begin(cls, rental: Rental, desk: BootDesk, teller: Teller, *, was_running: bool = False) -> Life:
        story = Story.begin(time.monotonic(), was_running=was_running)
        return cls(rental, desk, teller, story, desk.watchtower.newest)

    def until_running(self) -> Instance:
        """Raises BootFailed, Interrupted."""
        self.teller.phase("booting", WAITING)
        while True:
            self.look(WAIT_S)
            if isinstance(self.verdict, Running):
                return self.instance
            self.teller.detail("booting", self.verdict.text)

    def look(self, wait_s: float) -> None:
        """Wait so long for news, and take them in. Raises BootFailed for bad ones, and when there are none for too long; Interrupted."""
        seen = self.desk.watchtower.news(self.sighting, wait_s, self.desk.stop)
        if self.desk.stop.is_set():
            raise Interrupted("interrupted while a machine was booting.")
        if seen is None:
            self._check_silence()
            return
        gap_s = seen.at - self._heard_at
        if gap_s > GAP_POLLS * self.desk.settings.vast_poll_s:
            self.story = self.story.without(gap_s)
        self.sighting, self._heard_at = seen, time.monotonic()
        instance = seen.of(self.rental.instance_id)
        if instance is None:
            self._missed(seen.at)
        else:
            self._seen(instance, seen.at)

    def _seen(self, instance: Instance, now: float) -> None:
        self._absent_since, self._absences = None, 0
        self.instance = instance
        self.story = self.story.then(instance, now)
        verdict = classify(instance, self.story, now, Patience.of(self.desk.settings))
        if isinstance(verdict, Failed):
            raise failed(self.rental, self._with_credit(verdict))
        self.verdict = verdict

    def _missed(self, now: float) -> None:
        """Lists lag behind (vast facts §4.2), so it takes several without it, and a while, until it is gone."""
        settings = self.desk.settings
        self._absences += 1
        self._absent_since = now if self._absent_since is None else self._absent_since
        if self._absences >= settings.vast_settle_answers and now - self._absent_since >= settings.vast_settle_s:
            gone = Failed("ours", "vanished", "is gone: somebody or something else destroyed it")
            raise failed(self.rental, gone)

    def _check_silence(self) -> None:
        """A question without an answer is no news; without any answer for long, nobody can say that it ever will serve."""
        silent_s = time.monotonic() - self._heard_at
        trouble = self.desk.watchtower.trouble
        if silent_s < self.desk.settings.vast_stall_s:
            return
        said = f" ({trouble.message.rstrip('.')})" if trouble else ""
        raise BootFailed(
            f"the market says nothing of {name_of(self.rental)} for {silent_s:.0f} s{said}.",
            blame="account" if isinstance(trouble, AuthenticationNeeded) else "network",
            code=SILENT,
        )

    def _with_credit(self, verdict: Failed) -> Failed:
        """All stopped by the market means an account that ran dry, or else an instance that was interrupted (vast facts §2.1)."""
        if verdict.code != ALL_STOPPED:
            return verdict
        try:
            credit = self.desk.market.account().credit_usd
        except LlmhostError:
            return verdict
        if credit is None:
            return verdict
        if credit <= 0:
            return Failed("account", "credit_zero", "was stopped by the market: the account has no credit left")
        return Failed("host", "interrupted", "was stopped by the market, although there is credit")
