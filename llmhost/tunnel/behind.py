"""The node's proxy behind a link, asked through it: what it says decides between up and degraded, and never restarts ssh."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from llmhost.supervisor.prober import Prober, Reading
from llmhost.tunnel.base import Reason
from llmhost.tunnel.connection import Connection
from llmhost.tunnel.spec import LinkSpec
from llmhost.tunnel.state import LinkState, degraded, forwarding_refused

_STRANGE = "what it answers is not a node proxy's"
Verdict = tuple[LinkState, Reason | None]


class Behind:
    """Asks in a thread of its own, over whichever connection is in use (`current`); `poke` is called after each answer."""

    def __init__(self, spec: LinkSpec, current: Callable[[], Connection | None], poke: Callable[[], None]) -> None:
        self._spec = spec
        self._current = current
        self._poke = poke
        self._connected_at = 0.0
        self._proved = False  # whether it ever answered over the connection in use
        self.prober = self._make_prober()

    def start(self) -> None:
        self.prober.start()

    def stop(self) -> None:
        self.prober.stop()

    def follow(self, spec: LinkSpec) -> None:
        """Ask as another spec says."""
        anew = (spec.probe, spec.local, spec.timing) != (self._spec.probe, self._spec.local, self._spec.timing)
        self._spec = spec
        if anew:
            self.prober.stop()
            self.prober = self._make_prober()
            self.prober.start()

    def connected(self, now: float) -> None:
        """Another connection is in use."""
        self._connected_at, self._proved = now, False
        self.prober.forget()

    def verdict(self, current: Connection) -> Verdict | None:
        """What its last word means for the link; None without one, and where it may be the connection's fault."""
        reading = self.prober.reading
        if reading is None or reading.asked_at < self._connected_at:
            return None  # it went over the connection before
        if reading.ok and isinstance(reading.data, dict):
            self._proved = True
            return LinkState.UP, None
        if reading.ok:
            return LinkState.DEGRADED, degraded(self._spec, replace(reading, error=_STRANGE, fault="bad"))
        if reading.vanished or (current.echo.heard_at or 0.0) <= reading.asked_at:
            return None
        if reading.fault == "refused" and not self._proved and self._is_forbidden(current, reading):
            return LinkState.FAILED, forwarding_refused(self._spec)
        return LinkState.DEGRADED, degraded(self._spec, reading)

    @property
    def vanished(self) -> bool:
        """Whether the local socket was not there when it was asked."""
        return self.prober.reading is not None and self.prober.reading.vanished

    def _is_forbidden(self, current: Connection, reading: Reading) -> bool:
        """Whether the machine says that the proxy listens, and sshd refused us afterwards nevertheless."""
        echo, now = current.echo, time.monotonic()
        if echo.asked_at is None or now - echo.asked_at >= self._spec.timing.backoff_idle:
            current.beat(ask=True)
        return echo.listens_at is not None and reading.asked_at > echo.listens_at

    def _make_prober(self) -> Prober:
        every_s = self._spec.timing.probe_every
        address = f"unix:{self._spec.local}"
        return Prober(
            self._spec.probe, address, self._is_connected, self._heard, every_s=every_s, starting_s=every_s / 2
        )

    def _is_connected(self) -> bool:
        current = self._current()
        return current is not None and not current.ended

    def _heard(self, reading: Reading) -> None:
        current = self._current()
        if not reading.ok and current is not None:
            current.beat()  # its echo tells whose fault it is
        self._poke()
