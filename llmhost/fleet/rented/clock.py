"""Time, as renting and ending know it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime


class Clock:
    """The real one."""

    def now(self) -> datetime:
        """The time of day, in UTC: for the ledger."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds since some moment: for deadlines."""
        return time.monotonic()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Until the event is set, at most so long. Whether it is."""
        return event.wait(max(0.0, seconds))
