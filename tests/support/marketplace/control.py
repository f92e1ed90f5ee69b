"""What a test steers the marketplace by, in the same process. `control_http` offers the same to other processes."""

from __future__ import annotations

import re
from concurrent.futures import wait
from typing import Any

from tests.support.marketplace import billing, effects
from tests.support.marketplace.billing import Cost
from tests.support.marketplace.commands import remove
from tests.support.marketplace.exchanges import Exchange
from tests.support.marketplace.faults import Fault
from tests.support.marketplace.instance import Instance
from tests.support.marketplace.life import tick
from tests.support.marketplace.market import Market
from tests.support.marketplace.scenarios import SCENARIOS

MACHINES_S = 90.0


class Control:
    """Everything takes effect at once; `settle` waits for machines that are still starting or ending."""

    def __init__(self, market: Market) -> None:
        self.market = market

    # ── what goes wrong ─────────────────────────────────────────────────────────────────────────────────────────

    def fault(
        self,
        kind: str,
        method: str = "",
        path: str = "",
        *,
        count: int = 1,
        after: bool = False,
        skip: int = 0,
        **options: Any,
    ) -> Fault:
        """The next `count` calls that match go wrong in this way; see `faults.Fault` and `fault_kinds`."""
        return self.market.faults.add(Fault(kind, method, path, count, after, skip, options))

    def clear_faults(self) -> None:
        self.market.faults.clear()

    def plan(self, *scenarios: str, machine_id: int | None = None) -> None:
        """How the next instances will go, one each; with a machine, how every instance on it will go."""
        for name in scenarios:
            if name not in SCENARIOS:
                raise ValueError(f"no such scenario: {name}")
        if machine_id is not None:
            self.market.planned_by_machine[machine_id] = scenarios[0]
        else:
            self.market.planned.extend(scenarios)

    def set(self, **settings: Any) -> None:
        """Change settings of `market.Settings` by name."""
        for name, value in settings.items():
            if not hasattr(self.market.settings, name):
                raise ValueError(f"no such setting: {name}")
            setattr(self.market.settings, name, value)

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

    def advance(self, seconds: float) -> float:
        """Let time pass at once; machines that have to start meanwhile are waited for."""
        now = self.market.clock.advance(seconds)
        self.settle()
        return now

    def settle(self) -> None:
        """Until nothing that is due waits for a machine."""
        while True:
            with self.market.lock:
                tick(self.market)
                pending = list(self.market.pending)
            if not pending:
                return
            wait(pending, MACHINES_S)

    # ── what there is ───────────────────────────────────────────────────────────────────────────────────────────

    def billing_now(self) -> list[Cost]:
        """Every instance that exists, and so costs money: the list that must be empty in the end."""
        with self.market.lock:
            tick(self.market)
            return billing.billing_now(self.market)

    def instance(self, number: int) -> Instance:
        return self.market.instances[number]

    def instances(self) -> list[Instance]:
        """All there ever were."""
        return list(self.market.instances.values())

    def spent(self) -> float:
        """Dollars charged so far, over all instances."""
        with self.market.lock:
            tick(self.market)
            return sum(each.bill.total() for each in self.market.instances.values())

    def requests(self, route: str = "", method: str = "", path: str = "") -> list[Exchange]:
        """The calls that came in, by the name of the endpoint (`routes`), the method or a pattern of the path."""
        with self.market.lock:
            return [
                each
                for each in self.market.exchanges
                if route in ("", each.route) and method in ("", each.method) and re.search(path, each.path)
            ]

    # ── what others do ──────────────────────────────────────────────────────────────────────────────────────────

    def rename(self, number: int, label: str | None) -> None:
        """Somebody changes the label in the console."""
        with self.market.lock:
            self.market.instances[number].label = label

    def destroy(self, number: int) -> None:
        """Somebody destroys it in the console."""
        with self.market.lock:
            remove(self.market, self.market.instances[number])

    def rent(self, offer: int, label: str | None = None) -> int:
        """Somebody rents in the console; the id."""
        from tests.support.marketplace.answers import Call
        from tests.support.marketplace.create import create

        body = {"image": "somebody/else:1", "disk": 16.0, "label": label}
        call = Call("PUT", f"/api/v0/asks/{offer}/", {}, {}, b"", body, {"id": str(offer)})
        with self.market.lock:
            return int(create(self.market, call).data["new_contract"])

    def take(self, offer: int) -> None:
        """Another renter was faster."""
        with self.market.lock:
            self.market.offers[offer].listed = False

    def do(self, number: int, effect: str) -> None:
        """One of `effects.EFFECTS` happens to an instance now (`move`, `lose_gpu`, `dearer`, `broke` …)."""
        with self.market.lock:
            tick(self.market)
            effects.EFFECTS[effect](self.market, self.market.instances[number], self.market.clock.now())

    def status(self, number: int, **fields: Any) -> None:
        """The marketplace shows these status fields from now on."""
        with self.market.lock:
            self.market.instances[number].set(fields)

    def traffic(self, number: int, down_gb: float = 0.0, up_gb: float = 0.0) -> None:
        """The instance moved so much data, which is charged at its host's price."""
        with self.market.lock:
            instance = self.market.instances[number]
            for kind, gigabytes, column in (("bwd", down_gb, "inet_down_cost"), ("bwu", up_gb, "inet_up_cost")):
                price = instance.offer.fields[column]
                instance.bill.add_traffic(self.market.clock.now(), kind, gigabytes, price)
                self.market.account.credit -= gigabytes * price

    def hurt(self, number: int, how: str, path: str = "both", seconds: float = 0.0) -> None:
        """Break the way into an instance, or mend it (`ok`); `path` is `direct`, `proxy` or `both`."""
        self.market.instances[number].machine.hurt(how, path, seconds)

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────────

    def reset(self) -> None:
        """As new, all machines ended; the address, the account's key and the clock stay."""
        self.end_machines()
        with self.market.lock:
            self.market.reset()

    def end_machines(self) -> None:
        """Destroy what is there and wait until it is gone."""
        with self.market.lock:
            for instance in self.market.instances.values():
                if instance.alive:
                    remove(self.market, instance)
        self.settle()
