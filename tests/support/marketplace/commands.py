"""Commands to instances: start, stop, label, reboot, recycle, bid, destroy."""

from __future__ import annotations

from typing import Any

from tests.support.marketplace import effects
from tests.support.marketplace.answers import Answer, Call, Refusal, error, no_such_instance, ok
from tests.support.marketplace.create import BID
from tests.support.marketplace.instance import Instance
from tests.support.marketplace.life import run_script
from tests.support.marketplace.market import Market
from tests.support.marketplace.scenarios import REBOOT, RECYCLE, START, STOP, Script, Step

LABEL = 1024
BID_MAX = 32.0
UNAVAILABLE = "Required resources are currently unavailable, state change queued."


def find(market: Market, number: int) -> Instance:
    """An instance that exists; raises Refusal (404 no_such_instance)."""
    instance = market.instances.get(number)
    if instance is None or not instance.alive:
        raise Refusal(no_such_instance(number))
    return instance


def manage(market: Market, call: Call) -> Answer:
    """`PUT /instances/{id}/` with `state`, `label`, or both."""
    instance, wish = find(market, call.number), call.fields
    answer = ok()
    if "label" in wish:
        answer = _label(instance, wish["label"])
    if "state" in wish:
        answer = set_state(market, instance, wish["state"])
    return answer


def _label(instance: Instance, label: Any) -> Answer:
    if not isinstance(label, str | None) or len(label or "") > LABEL:
        msg = f"Please limit label length to {LABEL} characters, ideally less than 128."
        raise Refusal(error(400, "label_too_long", msg))
    instance.label = label
    return ok(msg=f"label for {instance.id} set to '{label}'")


def set_state(market: Market, instance: Instance, state: Any) -> Answer:
    """200, also when the start is only queued (then `success` is false); 400 `missing_billing` without credit."""
    if state == "stopped":
        _stop(market, instance)
        return ok()
    if state != "running":
        raise Refusal(error(400, "invalid_args", f"invalid state {state}"))
    if market.account.credit <= 0:
        raise Refusal(error(400, "missing_billing", "Please add credit to your account first."))
    return _start(market, instance)


def _stop(market: Market, instance: Instance) -> None:
    """Cancels a queued start too."""
    instance.set({"intended_status": "stopped", "cur_state": "stopped", "next_state": "stopped"})
    run_script(market, instance, STOP if instance.up or instance.booting is not None else [])


def _start(market: Market, instance: Instance) -> Answer:
    if instance.up or (instance.script and instance.status["cur_state"] == "running"):
        return ok()
    instance.set({"intended_status": "running", "next_state": "running"})
    if market.settings.refuse_starts > 0:
        market.settings.refuse_starts -= 1
        run_script(market, instance, _queued(market))
        return Answer(200, {"success": False, "error": "resources_unavailable", "msg": UNAVAILABLE})
    instance.set({"cur_state": "running"})
    run_script(market, instance, START)
    return ok()


def _queued(market: Market) -> Script:
    """The start fires later, when nobody may be looking, and bills from then on (vast facts §0.4)."""
    return [Step(market.settings.queued_start_s, {"cur_state": "running"}), *START]


def reboot(market: Market, call: Call) -> Answer:
    return _again(market, find(market, call.number), REBOOT)


def recycle(market: Market, call: Call) -> Answer:
    """As a reboot, and the disk is new."""
    return _again(market, find(market, call.number), RECYCLE)


def _again(market: Market, instance: Instance, script: Script) -> Answer:
    instance.set({"intended_status": "running", "cur_state": "running", "next_state": "running"})
    run_script(market, instance, script)
    return ok()


def bid(market: Market, call: Call) -> Answer:
    """`PUT /instances/bid_price/{id}/`."""
    instance, price = find(market, call.number), call.fields.get("price")
    if isinstance(price, bool) or not isinstance(price, int | float) or not BID[0] <= price <= BID_MAX:
        raise Refusal(error(400, "invalid_args", f"Please set a bid price >= {BID[0]}."))
    instance.bid = float(price)
    return ok()


def destroy(market: Market, call: Call) -> Answer:
    """Ends the bill at once; reads show the row for some seconds more."""
    remove(market, find(market, call.number))
    return ok()


def destroy_many(market: Market, call: Call) -> Answer:
    """`DELETE /instances/` with `instance_ids`; those that are not there are passed over."""
    for number in call.fields.get("instance_ids") or []:
        instance = market.instances.get(number)
        if instance is not None and instance.alive:
            remove(market, instance)
    return ok()


def state_of_many(market: Market, call: Call) -> Answer:
    """`PUT /instances/` with `state` and `ids`."""
    answers = [
        set_state(market, find(market, number), call.fields.get("state")) for number in call.fields.get("ids") or []
    ]
    return next((each for each in answers if not each.data["success"]), ok())


def update(market: Market, call: Call) -> Answer:
    """`PUT /instances/update_template/{id}/`: new image, onstart or environment, and a container made from scratch."""
    instance, wish = find(market, call.number), call.fields
    instance.image = wish.get("image") or instance.image
    instance.onstart = wish.get("onstart") or instance.onstart
    if isinstance(wish.get("env"), dict):
        instance.env = [[str(key), str(value)] for key, value in wish["env"].items()]
    return _again(market, instance, RECYCLE)


def remove(market: Market, instance: Instance) -> None:
    effects.delete(market, instance, market.clock.now())
