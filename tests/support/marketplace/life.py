"""Time passes: scripts go on, machines start and stop, money is charged."""

from __future__ import annotations

from tests.support.marketplace import effects
from tests.support.marketplace.billing import accrue
from tests.support.marketplace.instance import Instance
from tests.support.marketplace.market import Market
from tests.support.marketplace.scenarios import ALL_STOPPED, Script


def tick(market: Market) -> None:
    """Bring everything to the clock's now. The market's lock must be held."""
    start, now = market.last_tick, market.clock.now()
    while (due := _first_due(market, now)) is not None:
        at, instance = due
        start = _charge(market, start, max(start, at))
        if instance.script and _due_at(market, instance) == at:  # the charge may have stopped everything
            _take_step(market, instance, max(start, at))
    _charge(market, start, now)
    market.last_tick = now
    effects.apply_keys(market, now)
    market.pending = [each for each in market.pending if not each.done()]


def run_script(market: Market, instance: Instance, script: Script) -> None:
    """From now on the instance goes by this script."""
    instance.script, instance.since = list(script), market.clock.now()


def _first_due(market: Market, now: float) -> tuple[float, Instance] | None:
    """The next step of any instance that is due by `now` and not waiting for its machine, and when it was due."""
    due = [
        (at, instance)
        for instance in market.instances.values()
        if instance.alive and instance.script
        if (at := _due_at(market, instance)) <= now and effects.ready(market, instance)
    ]
    return min(due, key=lambda each: each[0], default=None)


def _due_at(market: Market, instance: Instance) -> float:
    return instance.since + market.paced(instance.script[0].after)


def _take_step(market: Market, instance: Instance, at: float) -> None:
    due, step = _due_at(market, instance), instance.script.pop(0)
    # The steps that follow the start of a machine count from when it was up, however long that took.
    instance.since = at if "boot" in step.do else due
    for name in step.do:
        effects.EFFECTS[name](market, instance, at)
    if instance.alive and step.fields:
        instance.set(dict(step.fields))


def _charge(market: Market, start: float, end: float) -> float:
    """Charge everybody from `start` to `end`, which is returned. An account without credit has everything stopped."""
    if market.account.credit > 0:
        for instance in market.instances.values():
            market.account.credit -= accrue(instance, start, end)
        if market.account.credit <= 0:
            stop_all(market)
    return end


def stop_all(market: Market) -> None:
    """What happens to every instance of an account that ran dry (vast facts §2.3)."""
    for instance in market.instances.values():
        if instance.alive:
            effects.halt(market, instance, market.clock.now())
            instance.script = []
            instance.set(dict(ALL_STOPPED))
