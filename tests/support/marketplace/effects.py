"""What steps do besides changing status fields. Each takes the market, the instance and the time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait

from tests.support.marketplace.instance import Instance
from tests.support.marketplace.machine import Boot
from tests.support.marketplace.market import Market


def ready(market: Market, instance: Instance) -> bool:
    """Whether the next step can be taken. A step that boots waits for the machine, which a thread starts meanwhile."""
    if "boot" not in instance.script[0].do or instance.machine.instant:
        return True
    if instance.booting is None:
        boot, keys = boot_of(market, instance), authorized(market, instance, market.clock.now())
        instance.booting = in_turn(market, instance, lambda: _start(market, instance, boot, keys))
    return instance.booting.done()


def _start(market: Market, instance: Instance, boot: Boot, keys: list[str]) -> None:
    try:
        instance.machine.start(boot)
        instance.machine.authorize(keys)
    except (OSError, RuntimeError) as problem:
        market.trouble.append(f"instance {instance.id}: {problem}")


def in_turn(market: Market, instance: Instance, work: Callable[[], None]) -> Future[None]:
    """Do it in a thread, after everything that was to be done with this machine before."""
    before = instance.last_job

    def run() -> None:
        if before is not None:
            wait([before])
        work()

    instance.last_job = market.pool.submit(run)
    market.pending.append(instance.last_job)
    return instance.last_job


def boot_of(market: Market, instance: Instance) -> Boot:
    """What the container finds in its environment (vast facts §2.4)."""
    card = instance.offer.fields
    own = {
        "CONTAINER_ID": str(instance.id),
        "CONTAINER_API_KEY": instance.key,
        "VAST_CONTAINERLABEL": f"C.{instance.id}",
        "VAST_URL": market.url,
        "GPU_COUNT": str(card["num_gpus"]),
    }
    wished = {name: value for name, value in instance.env if not name.startswith("-")}
    return Boot(
        instance.id,
        instance.onstart,
        {**market.account.secrets, **wished, **own},
        card["gpu_name"],
        card["gpu_ram"],
        card["num_gpus"],
        card["driver_version"],
    )


def boot(market: Market, instance: Instance, at: float) -> None:
    if instance.machine.instant:
        instance.machine.start(boot_of(market, instance))
    instance.up, instance.booting, instance.authorized_at = True, None, instance.authorized_at or at
    instance.machine.authorize(authorized(market, instance, at))


def authorized(market: Market, instance: Instance, now: float) -> list[str]:
    """The public keys let in: those the account had at the creation and those attached, once the lag is over."""
    since = instance.authorized_at or now
    return list(instance.keys) if now >= since + market.paced(market.settings.key_lag_s) else []


def apply_keys(market: Market, now: float) -> None:
    """Let in those whose lag is over."""
    for instance in market.instances.values():
        if instance.alive and instance.up and market.settings.key_lag_s:
            instance.machine.authorize(authorized(market, instance, now))


def halt(market: Market, instance: Instance, at: float) -> None:
    """The container stops; its disk stays."""
    if instance.up or instance.booting is not None:
        instance.up, instance.booting = False, None
        later(market, instance.machine.stop, instance)


def wipe(market: Market, instance: Instance, at: float) -> None:
    later(market, instance.machine.wipe, instance)


def delete(market: Market, instance: Instance, at: float) -> None:
    """The instance is gone for good: its bill ends, its key is nobody's, its machine is free."""
    instance.destroyed_at, instance.up, instance.script = at, False, []
    instance.offer.rented -= 1
    market.keys.revoke(instance.key)
    later(market, instance.machine.destroy, instance)


def later(market: Market, work: Callable[[], None], instance: Instance) -> None:
    """Do it in a thread, unless it takes no time."""
    if instance.machine.instant:
        work()
    else:
        in_turn(market, instance, work)


def cut(market: Market, instance: Instance, at: float) -> None:
    instance.offline = True
    instance.machine.hurt("hang")


def mend(market: Market, instance: Instance, at: float) -> None:
    instance.offline = False
    instance.machine.hurt("ok")


def broke(market: Market, instance: Instance, at: float) -> None:
    """The account has a thousandth of a cent left, which the next moment takes."""
    market.account.credit = 1e-9


def move(market: Market, instance: Instance, at: float) -> None:
    instance.machine.hurt("move")


def dearer(market: Market, instance: Instance, at: float) -> None:
    """The host wants a tenth more; it is charged once it was accepted, or three days later."""
    old = instance.price()["dph_base"]
    instance.pending_price = {
        "id": market.next_number(),
        "contract_id": instance.id,
        "instance_id": instance.id,
        "current_price": old,
        "new_price": round(old * 1.1, 4),
        "created_at": at,
        "effective_at": at + 3 * 86_400.0,
    }


def lose_gpu(market: Market, instance: Instance, at: float) -> None:
    instance.machine.hurt("gpu_lost")


def refuse(market: Market, instance: Instance, at: float) -> None:
    instance.machine.hurt("refuse")


def hide_ports(market: Market, instance: Instance, at: float) -> None:
    instance.ports_hidden = True


def show_ports(market: Market, instance: Instance, at: float) -> None:
    instance.ports_hidden = False


def ends_in_10_minutes(market: Market, instance: Instance, at: float) -> None:
    instance.ends = instance.created + market.paced(615)


EFFECTS: dict[str, Callable[[Market, Instance, float], None]] = {
    each.__name__: each
    for each in (
        boot,
        halt,
        wipe,
        delete,
        cut,
        mend,
        broke,
        move,
        dearer,
        lose_gpu,
        refuse,
        hide_ports,
        show_ports,
        ends_in_10_minutes,
    )
}
