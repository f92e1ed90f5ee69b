"""The whole state of the marketplace, without its wire."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from tests.support.marketplace.auth import Keys
from tests.support.marketplace.catalogue import Catalogue
from tests.support.marketplace.clock import Clock
from tests.support.marketplace.exchanges import Exchange
from tests.support.marketplace.faults import Faults
from tests.support.marketplace.instance import Instance
from tests.support.marketplace.limits import Limits
from tests.support.marketplace.machine import MachineMaker, paper
from tests.support.marketplace.scenarios import ALL_STOPPED

FIRST_INSTANCE = 33_402_296


@dataclass
class Settings:
    """How this marketplace behaves where the real one differs from day to day. Seconds are the market's, multiplied by `pace`.

    `pace` shortens every life and lag (0.1 = ten times as fast), the clock left as it is. `gone` is how an instance that is not there
    is answered for: `null` or `404`. `v0_list` is `410` or `200`. `bad_key` is the status for a wrong key.
    """

    scenario: str = "happy_warm"
    pace: float = 1.0
    list_lag_s: float = 0.0
    vanish_s: float = 2.0
    key_lag_s: float = 0.0
    charges_lag_s: float = 6 * 3600.0
    log_refusals: int = 1
    log_url_name: str = "result_url"
    logs_ready: bool = True
    gone: str = "null"
    v0_list: str = "410"
    bad_key: int = 404
    queued_start_s: float = 120.0
    refuse_starts: int = 0


@dataclass
class Account:
    """Who rents. `credit` is what can be spent; `balance` was 0 on a real one (vast facts §1.5)."""

    id: int = 481_516
    email: str = "renter@example.test"
    credit: float = 25.0
    balance: float = 0.0
    spend_limit_per_hour: float | None = None
    host_ids: set[int] = field(default_factory=set)
    ssh_keys: dict[int, dict[str, Any]] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    jobs: dict[int, dict[str, Any]] = field(default_factory=dict)


class Market:
    """Everything by name. Handlers hold `lock`; `url` is set once it is served."""

    def __init__(
        self, *, clock: Clock | None = None, machines: MachineMaker = paper, limits: bool = True, **settings: Any
    ) -> None:
        self.lock = threading.RLock()
        self.clock = clock or Clock()
        self.machines = machines
        self.settings = Settings(**settings)
        self.limits = Limits(self.clock, on=limits)
        self.faults = Faults()
        self.keys = Keys()
        self.stopping = threading.Event()
        self.url = ""
        self.exchanges: list[Exchange] = []
        self.pool = ThreadPoolExecutor(16, thread_name_prefix="market-machine")
        self._empty()

    def _empty(self) -> None:
        self.account = Account()
        self.offers = Catalogue.usual()
        self.deaf_to: set[str] = set()
        self.instances: dict[int, Instance] = {}
        self.planned: deque[str] = deque()
        self.planned_by_machine: dict[int, str] = {}
        self.texts: dict[str, list[Any]] = {}
        self.trouble: list[str] = []
        self.pending: list[Future[None]] = []
        self.last_tick = self.clock.now()
        self._next = FIRST_INSTANCE
        self._numbers = 1000

    def reset(self) -> None:
        """As new; the keys and the clock stay. Machines must have been destroyed before."""
        self.limits.reset()
        self.faults.clear()
        self.exchanges.clear()
        self._empty()

    def next_instance(self) -> int:
        number, self._next = self._next, self._next + 11
        return number

    def next_number(self) -> int:
        """An id for anything else."""
        self._numbers += 1
        return self._numbers

    def scenario_for(self, machine_id: int) -> str:
        """How the next instance on this machine will go."""
        if machine_id in self.planned_by_machine:
            return self.planned_by_machine[machine_id]
        return self.planned.popleft() if self.planned else self.settings.scenario

    def stop_quietly(self, number: int) -> None:
        """An instance that was created and will never start: it bills its disk."""
        instance = self.instances[number]
        instance.script = []
        instance.set(dict(ALL_STOPPED))

    def paced(self, seconds: float) -> float:
        return seconds * self.settings.pace
