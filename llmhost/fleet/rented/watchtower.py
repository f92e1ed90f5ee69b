"""One look at the market for everybody who waits: a list of all instances every so often, however many of them are booting.

Never a question for each instance, because the market limits those (vast facts §4.4).
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from llmhost.core.errors import LlmhostError
from llmhost.providers.market import Instance, Market

# How often a waiting thread looks whether it should still wait.
LOOK_UP_S = 0.2


@dataclass(frozen=True, slots=True)
class Sighting:
    """The market's newest answer. `number` counts them from 1, 0 = none yet; `at` is when it came, by time.monotonic()."""

    number: int
    at: float
    instances: tuple[Instance, ...] = ()

    def of(self, instance_id: int | None) -> Instance | None:
        """The instance, None when it was not in the list."""
        return next((one for one in self.instances if one.id == instance_id), None)


class Watchtower:
    """Shared by all threads of this process. Whoever waits first asks for all; a question that failed is no news.

    `trouble` is why the newest question was not answered, None when it was.
    """

    def __init__(self, market: Market, poll_s: float) -> None:
        self.trouble: LlmhostError | None = None
        self._market = market
        self._poll_s = poll_s
        self._changed = threading.Condition()
        self._asking = False
        self._due_at = 0.0
        self._newest = Sighting(0, time.monotonic())

    @property
    def newest(self) -> Sighting:
        """The last answer, without waiting."""
        return self._newest

    def news(self, after: Sighting, wait_s: float, stop: threading.Event) -> Sighting | None:
        """An answer that came after this one; None when there was none within `wait_s`, or when `stop` was set."""
        deadline = time.monotonic() + wait_s
        while not stop.is_set():
            with self._changed:
                if self._newest.number > after.number:
                    return self._newest
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                due_in = self._due_at - time.monotonic()
                if self._asking or due_in > 0:
                    self._changed.wait(min(left, LOOK_UP_S, LOOK_UP_S if self._asking else due_in))
                    continue
                self._asking = True
            self._ask()
        return None

    def _ask(self) -> None:
        """Ask the market once; never more than one thread is in here."""
        instances, trouble = None, None
        try:
            instances = tuple(self._market.instances())
        except LlmhostError as error:
            trouble = error
        finally:
            with self._changed:
                self._asking = False
                self._due_at = time.monotonic() + self._poll_s
                self.trouble = trouble
                if instances is not None:
                    self._newest = Sighting(self._newest.number + 1, time.monotonic(), instances)
                self._changed.notify_all()
