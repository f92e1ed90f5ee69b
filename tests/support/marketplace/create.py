"""`PUT /asks/{id}/`: rent an offer (vast facts §1.5 "Create body" and "Create answers")."""

from __future__ import annotations

from typing import Any

from tests.support.marketplace.answers import Answer, Call, Refusal, error, ok
from tests.support.marketplace.instance import Instance, fresh_status
from tests.support.marketplace.market import Market
from tests.support.marketplace.offers import Offer
from tests.support.marketplace.scenarios import SCENARIOS, never_starts

RUNTYPES = {
    "ssh": "ssh ssh_proxy",
    "ssh_proxy": "ssh ssh_proxy",
    "ssh_direct": "ssh ssh_direc ssh_proxy",
    "ssh_direc ssh_proxy": "ssh ssh_direc ssh_proxy",
    "jupyter": "jupyter jupyter_proxy",
    "jupyter_proxy": "jupyter jupyter_proxy",
    "jupyter_direct": "jupyter jupyter_direc jupyter_proxy",
    "args": "args",
}
# Longer ones are accepted, and the instance never starts (vast facts §0.7).
SILENT_ONSTART_BYTES = 4048
LIMITS = {"image": 1024, "label": 256}
MIN_DISK_GB = 8.0
ENV_BYTES = 32_768
BID = (0.001, 128.0)


def create(market: Market, call: Call) -> Answer:
    """200 with `new_contract` and `instance_api_key`; else one of the refusals. A bid below the least one creates a stopped instance."""
    wish = call.fields
    offer = _offer(market, call.number)
    _check(wish, offer.id)
    _check_account(market, offer, wish)
    if not offer.starts and _cancels(wish):
        raise Refusal(gone(offer.id))
    instance = _rent(market, offer, wish)
    if instance.bid is not None and instance.bid < offer.min_bid:
        market.stop_quietly(instance.id)
        msg = f"error 400/3470: bid price {instance.bid} is below the minimum {offer.min_bid}"
        return error(400, "invalid_price", msg, ask_id=offer.id, new_contract=instance.id)
    if not offer.starts or wish.get("target_state") == "stopped":
        market.stop_quietly(instance.id)
    return ok(new_contract=instance.id, instance_api_key=instance.key)


def gone(ask: int) -> Answer:
    """The offer was there a moment ago."""
    return error(
        410, "no_such_ask", f"error 410/3907: no_such_ask Instance type {ask} is no longer available.", ask_id=ask
    )


def _offer(market: Market, ask: int) -> Offer:
    offer = market.offers.get(ask)
    if offer is None or not offer.listed:
        msg = f"error 404/3603: no_such_ask Instance type by id {ask} is not available."
        raise Refusal(error(404, "invalid_args", msg, ask_id=ask))
    if not offer.rentable:
        raise Refusal(gone(ask))
    return offer


def _cancels(wish: dict[str, Any]) -> bool:
    """Bids wait by default, rentals at a fixed price are cancelled."""
    asked = wish.get("cancel_unavail")
    return wish.get("price") is None if asked is None else bool(asked)


def _check(wish: dict[str, Any], ask: int) -> None:
    problem = next((text for text in _problems(wish) if text), "")
    if problem:
        raise Refusal(error(400, "invalid_args", f"error 400/3467: Invalid args: {problem}", ask_id=ask))
    price = wish.get("price")
    if price is not None and not (_is_number(price) and BID[0] <= price <= BID[1]):
        raise Refusal(
            error(400, "invalid_price", f"error 400/3468: price must be between {BID[0]} and {BID[1]}", ask_id=ask)
        )


def _problems(wish: dict[str, Any]) -> list[str]:
    disk, runtype, env = wish.get("disk"), wish.get("runtype"), wish.get("env")
    return [
        "" if wish.get("image") or wish.get("template_hash_id") or wish.get("template_id") else "'image' is required",
        *(f"{key} is too long" for key, most in LIMITS.items() if len(str(wish.get(key) or "")) > most),
        "" if disk is None or (_is_number(disk) and disk >= MIN_DISK_GB) else f"disk must be >= {MIN_DISK_GB:.0f}",
        "" if runtype is None or runtype in RUNTYPES else f"unknown runtype {runtype}",
        "" if env is None or isinstance(env, str | dict) else "env must be an object",
        "" if len(str(env or "")) <= ENV_BYTES else "env is too long",
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_account(market: Market, offer: Offer, wish: dict[str, Any]) -> None:
    account = market.account
    if offer.fields["host_id"] in account.host_ids:
        msg = f"error 403/3586: Offer {offer.id} is not your own. Hosts can only rent their own machines."
        raise Refusal(error(403, "invalid_args", msg, ask_id=offer.id))
    if wish.get("vm") and not account.ssh_keys:
        raise Refusal(error(400, "no_ssh_key_for_vm", "error 400/3471: a VM needs an ssh key", ask_id=offer.id))
    price = offer.price(float(wish.get("disk") or MIN_DISK_GB), wish.get("price"))["dph_total"]
    spent = sum(each.price()["dph_total"] for each in market.instances.values() if each.alive)
    if account.credit <= 0:
        raise Refusal(
            error(400, "insufficient_credit", "Your account lacks credit; see the billing page.", ask_id=offer.id)
        )
    if account.spend_limit_per_hour is not None and spent + price > account.spend_limit_per_hour:
        raise Refusal(
            error(400, "spend_rate_limit", "Your account is limited in what it may spend per hour.", ask_id=offer.id)
        )


def _rent(market: Market, offer: Offer, wish: dict[str, Any]) -> Instance:
    number, now = market.next_instance(), market.clock.now()
    instance = Instance(
        number,
        offer,
        market.machines(number),
        float(wish.get("disk") or MIN_DISK_GB),
        wish.get("image") or "vastai/base-image:cuda-12.8",
        now,
        now + offer.lasts_s,
        RUNTYPES[wish.get("runtype") or "ssh"],
        wish.get("label"),
        wish.get("onstart") or "",
        _pairs(wish.get("env")),
        wish.get("price"),
    )
    instance.set(fresh_status())
    instance.keys = [each["public_key"] for each in market.account.ssh_keys.values()]
    instance.script, instance.since = _script(market, instance), now
    offer.rented += 1
    market.instances[number] = instance
    market.keys.container(instance.key, number)
    return instance


def _script(market: Market, instance: Instance) -> Any:
    scenario = market.scenario_for(instance.offer.machine_id)
    too_long = len(instance.onstart.encode()) > SILENT_ONSTART_BYTES
    return never_starts() if too_long else SCENARIOS[scenario]()


def _pairs(env: Any) -> list[list[str]]:
    """As it comes back in the row. A string of docker's options is taken and not applied (vast facts §1.5)."""
    return [[str(key), str(value)] for key, value in env.items()] if isinstance(env, dict) else []
