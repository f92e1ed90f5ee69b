"""How long renting and ending wait, and how often they ask. All in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from llmhost.core.settings import Settings

# Of a create that came too soon, and the penalty after it (vast facts §1.5).
CREATE_PENALTY_S = 12.0
# A verified end is asked for this often at least (vast facts §4.2 step 8).
VERIFY_EVERY_S = 5.0
LEAST_S = 0.005
# How many times the window of settling a market that does not answer is waited for.
PATIENCE = 3


@dataclass(frozen=True, slots=True)
class RentTiming:
    """`settle_s` is how long the market's list may lag behind what was rented, and `settle_answers` how many lists without it prove that
    nothing was. `verify_s` is how long an end may take. `attempts` offers are tried for one node. `pace` stretches the market's own
    intervals (1 = as documented). `patience_s` bounds settling and ending for who only wants to know (None = all the time they need)."""

    settle_s: float = 20.0
    settle_answers: int = 3
    poll_s: float = 10.0
    verify_s: float = 180.0
    attempts: int = 3
    pace: float = 1.0
    write_timeout_s: float = 60.0
    patience_s: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> RentTiming:
        return cls(
            settle_s=settings.vast_settle_s,
            settle_answers=settings.vast_settle_answers,
            poll_s=settings.vast_poll_s,
            verify_s=settings.vast_verify_s,
            attempts=settings.vast_attempts,
            pace=settings.vast_pace,
            write_timeout_s=settings.vast_write_timeout_s,
        )

    @property
    def settle_every_s(self) -> float:
        """Between two questions whether something was rented."""
        return max(LEAST_S, min(self.poll_s, self.settle_s / (2 * self.settle_answers)))

    @property
    def settle_patience_s(self) -> float:
        """How long a market that does not answer is asked, since its last answer, before nobody knows."""
        return self._bounded(max(LEAST_S * 40, PATIENCE * self.settle_s))

    @property
    def end_patience_s(self) -> float:
        """How long an end is waited for."""
        return self._bounded(self.verify_s)

    @property
    def verify_every_s(self) -> float:
        """Between two questions whether something is gone."""
        return max(LEAST_S, min(self.poll_s, VERIFY_EVERY_S, self.verify_s / 20))

    @property
    def penalty_s(self) -> float:
        """After a create that came too soon."""
        return CREATE_PENALTY_S * self.pace

    @property
    def fresh_s(self) -> float:
        """How old an attempt may be that somebody is still at work on: the call itself, then finding out what it did."""
        return self.write_timeout_s + self.settle_s + 2 * PATIENCE * self.settle_s

    def _bounded(self, seconds: float) -> float:
        return seconds if self.patience_s is None else min(seconds, self.patience_s)
