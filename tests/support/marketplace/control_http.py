"""The control plane over HTTP: `/__faults`, `/__requests`, `/__instances`, `/__clock`, `/__settings`, `/__key`, `/__billing`, `/__reset`.

It needs no login and is served on loopback only. Every body and answer is JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tests.support.marketplace.answers import Answer, Call, html
from tests.support.marketplace.control import Control
from tests.support.marketplace.faults import Fault
from tests.support.marketplace.rows import row


def control_answer(control: Control, call: Call) -> Answer:
    """400 with the problem for something that makes no sense."""
    handler = _HANDLERS.get((call.method, call.path.rstrip("/")))
    if handler is None:
        return html(404, "Not Found")
    try:
        return Answer(data=handler(control, call))
    except (KeyError, TypeError, ValueError) as problem:
        return Answer(400, {"error": f"{type(problem).__name__}: {problem}"})


def _faults(control: Control, call: Call) -> Any:
    return [fault.as_dict() for fault in control.market.faults.rules]


def _add_fault(control: Control, call: Call) -> Any:
    """A fault as `{kind, method, path, count, after, skip, options}`."""
    return control.market.faults.add(Fault(**call.fields)).as_dict()


def _clear_faults(control: Control, call: Call) -> Any:
    control.clear_faults()
    return []


def _requests(control: Control, call: Call) -> Any:
    return [each.as_dict() for each in control.requests(call.query.get("route", ""), call.query.get("method", ""))]


def _instances(control: Control, call: Call) -> Any:
    market = control.market
    with market.lock:
        return [
            row(each, market.clock.now(), 0.0)
            | {"alive": each.alive, "billed": each.bill.total(), "instance_api_key": each.key}
            for each in market.instances.values()
        ]


def _act(control: Control, call: Call) -> Any:
    """`{"do": METHOD, …}` calls one of Control's own: plan, rename, destroy, rent, take, do, status, traffic, hurt, settle."""
    wish = dict(call.fields)
    name = wish.pop("do")
    if name not in ("plan", "rename", "destroy", "rent", "take", "do", "status", "traffic", "hurt", "settle"):
        raise ValueError(f"cannot {name}")
    return {"result": getattr(control, name)(*wish.pop("args", []), **wish)}


def _clock(control: Control, call: Call) -> Any:
    clock = control.market.clock
    return {"now": clock.now(), "scale": clock.scale, "skew_s": clock.skew_s}


def _set_clock(control: Control, call: Call) -> Any:
    """`{"advance": S}`, `{"scale": X}`, `{"skew_s": S}`."""
    wish, clock = call.fields, control.market.clock
    if "scale" in wish:
        clock.set_scale(float(wish["scale"]))
    clock.skew_s = float(wish.get("skew_s", clock.skew_s))
    if "advance" in wish:
        control.advance(float(wish["advance"]))
    return _clock(control, call)


def _settings(control: Control, call: Call) -> Any:
    return asdict(control.market.settings)


def _set_settings(control: Control, call: Call) -> Any:
    """Settings by name; `limits` (true or false), `limit_factor`, and `credit` besides."""
    wish = dict(call.fields)
    limits = control.market.limits
    limits.on, limits.factor = wish.pop("limits", limits.on), wish.pop("limit_factor", limits.factor)
    control.market.account.credit = wish.pop("credit", control.market.account.credit)
    control.set(**wish)
    return _settings(control, call)


def _billing(control: Control, call: Call) -> Any:
    return {"now": [asdict(each) for each in control.billing_now()], "spent": control.spent()}


def _key(control: Control, call: Call) -> Any:
    return {"key": control.market.keys.account.secret}


def _reset(control: Control, call: Call) -> Any:
    control.reset()
    return {}


_HANDLERS: dict[tuple[str, str], Callable[[Control, Call], Any]] = {
    ("GET", "/__faults"): _faults,
    ("POST", "/__faults"): _add_fault,
    ("DELETE", "/__faults"): _clear_faults,
    ("GET", "/__requests"): _requests,
    ("GET", "/__instances"): _instances,
    ("POST", "/__instances"): _act,
    ("GET", "/__clock"): _clock,
    ("POST", "/__clock"): _set_clock,
    ("GET", "/__settings"): _settings,
    ("POST", "/__settings"): _set_settings,
    ("GET", "/__billing"): _billing,
    ("GET", "/__key"): _key,
    ("POST", "/__reset"): _reset,
}
