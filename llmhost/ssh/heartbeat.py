"""Notices that the other side has gone silent.

Paramiko's own keepalive does not: it sends and never looks at the answer (tunnel facts §2).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhost.ssh.exchange import gone

if TYPE_CHECKING:
    from paramiko import Transport

# What OpenSSH's own client asks; servers that do not know it refuse it, which is an answer too.
REQUEST = "keepalive@openssh.com"


@dataclass(frozen=True, slots=True)
class Alive:
    """Seconds between two questions, and until a missing answer ends the connection: those of ssh (tunnel facts §2.3)."""

    every: float = 5.0
    within: float = 30.0


class Heartbeat(threading.Thread):
    """Asks for an answer now and then; without one in time it calls `give_up` (from another thread) and ends."""

    def __init__(self, transport: Transport, alive: Alive, give_up: Callable[[], None]) -> None:
        super().__init__(name="llmhost-ssh-heartbeat", daemon=True)
        self._transport, self._alive, self._give_up = transport, alive, give_up
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(self._alive.every) and self._transport.is_active():
            limit = threading.Timer(self._alive.within, self._give_up)
            limit.daemon = True
            limit.start()
            with contextlib.suppress(*gone()):  # then the connection is no more, and whoever uses it says so
                self._transport.global_request(REQUEST, wait=True)
            limit.cancel()

    def stop(self) -> None:
        """End it; it ends at once unless it waits for an answer, and then with the connection."""
        self._stopped.set()
