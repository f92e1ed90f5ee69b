"""Ctrl-C at a bad moment: what may bill is finished first, unless the user insists.

Signals reach the main thread only, while renting may go on in others: `deferred` held by the main thread counts for all of them.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from llmhost.core.errors import Interrupted, StillBilling
from llmhost.fleet.rented.clock import Clock

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_here: list[Interrupts] = []


def given_up() -> Interrupted:
    """The user did not wait until it was known what bills."""
    return Interrupted(
        "interrupted before it was known what was rented; the ledger remembers the attempt.",
        hint="llmhost status --refresh shows what bills, llmhost down ends it",
        code="interrupted_unsettled",
    )


class Interrupts:
    """What came in meanwhile. `asked`: begin nothing more. `insisted`: wait for nothing more."""

    def __init__(self, tell: Callable[[], None] | None = None) -> None:
        self.asked = threading.Event()
        self.insisted = threading.Event()
        self.signal: int | None = None
        self._tell = tell

    def check(self) -> None:
        """Raises Interrupted once a signal came in. To be called before anything is begun."""
        if self.asked.is_set():
            raise Interrupted("interrupted; nothing more was rented.", hint="llmhost status shows what runs")

    def pause(self, seconds: float, clock: Clock) -> None:
        """Wait. Raises Interrupted (`interrupted_unsettled`) when the user insists."""
        if clock.wait(self.insisted, seconds):
            raise given_up()

    def take(self, number: int, frame: FrameType | None) -> None:
        """The signals' handler."""
        if self.asked.is_set():
            self.insisted.set()
            raise KeyboardInterrupt  # not an error of ours: what waits for the market expects those, and would go on
        self.signal = number
        self.asked.set()
        if self._tell is not None:
            # Not from here: the handler may have come in the middle of another line to the terminal.
            threading.Thread(target=self._tell, daemon=True).start()


@contextlib.contextmanager
def deferred(tell: Callable[[], None] | None = None) -> Iterator[Interrupts]:
    """SIGINT and SIGTERM wait until the end of the block, and take effect then; a second one raises Interrupted at once.

    `tell` is called, in a thread, when the first comes in. Inside another `deferred`, and in a thread while the main thread has one, it is
    that one. A StillBilling leaves the block as it is: it says more than the signal.
    """
    if _here or threading.current_thread() is not threading.main_thread():
        yield current()
        return
    interrupts = Interrupts(tell)
    before = _install(interrupts)
    _here.append(interrupts)
    try:
        yield interrupts
    except (StillBilling, Interrupted):
        interrupts.signal = None
        raise
    except KeyboardInterrupt:
        interrupts.signal = None
        raise given_up() from None
    finally:
        _here.remove(interrupts)
        _restore(before)
        if interrupts.signal is not None:
            signal.raise_signal(interrupts.signal)


def current() -> Interrupts:
    """Those that are deferred now, for any thread; else some that never come."""
    return _here[-1] if _here else Interrupts()


def _install(interrupts: Interrupts) -> dict[signal.Signals, Any]:
    """One that is ignored stays so (nohup)."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    wanted = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in wanted:
        signal.signal(number, interrupts.take)
    return wanted


def _restore(before: dict[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)
