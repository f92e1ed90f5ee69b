"""Charges, invoices, deposits and price rises."""

from __future__ import annotations

import json
from typing import Any

from tests.support.marketplace.answers import Answer, Call, Refusal, error, ok
from tests.support.marketplace.billing import HOUR
from tests.support.marketplace.commands import find
from tests.support.marketplace.instance import Instance
from tests.support.marketplace.market import Market

_KINDS = {"gpu": "gpu", "disk": "disk", "bwd": "bandwidth down", "bwu": "bandwidth up"}


def charges(market: Market, call: Call) -> Answer:
    """`GET /charges/`, far behind what was really used (vast facts §1.5)."""
    wish = _filters(call)
    day = wish.get("day") or {}
    if "gte" not in day or "lte" not in day:
        raise Refusal(
            Answer(400, {"success": False, "msg": "Must provide both 'day' gte and lte filters for instance charges"})
        )
    until = market.clock.now() - market.paced(market.settings.charges_lag_s)
    rows = [_charge(each, until) for each in market.instances.values() if each.bill.total(until) > 0]
    return ok(count=len(rows), total=len(rows), next_token=None, results=rows)


def _filters(call: Call) -> dict[str, Any]:
    try:
        wish = json.loads(call.query.get("select_filters") or "{}")
    except ValueError:
        wish = None
    if not isinstance(wish, dict):
        raise Refusal(error(400, "invalid_request", "Invalid select_filters"))
    return wish


def _charge(instance: Instance, until: float) -> dict[str, Any]:
    spans = [span.until(until) for span in instance.bill.spans]
    start, end = int(spans[0].start), int(spans[-1].end)
    items = [_item(kind, dollars, start, end) for kind, dollars in instance.bill.amounts(until).items() if dollars > 0]
    return {
        "start": start,
        "end": end,
        "type": "instance",
        "source": f"instance-{instance.id}",
        "description": f"Instance {instance.id} Charges",
        "amount": round(instance.bill.total(until), 3),
        "metadata": {"label": instance.label} if instance.label else {},
        "items": items,
    }


def _item(kind: str, dollars: float, start: int, end: int) -> dict[str, Any]:
    hours = max((end - start) / HOUR, 1e-9)
    text = f"{hours:.3f} hours at ${dollars / hours:.3f}/hour" if kind in ("gpu", "disk") else _KINDS[kind]
    fixed: dict[str, Any] = {"source": None, "metadata": {}, "items": []}
    return {"start": start, "end": end, "type": kind, "description": text, "amount": round(dollars, 3), **fixed}


def invoices(market: Market, call: Call) -> Answer:
    """What was paid in: nothing here."""
    if not isinstance(_filters(call).get("when"), dict):
        nothing: dict[str, Any] = {"count": 0, "total": 0, "results": [], "next_token": None}
        return Answer(200, {"success": False, "error": "Invalid date range", **nothing})
    return ok(count=0, total=0, results=[], next_token=None)


def deposit(market: Market, call: Call) -> Answer:
    find(market, call.number)
    return ok(refundable_deposit=0.0, total_discount=0.0, discount_months=0)


def price_increases(market: Market, call: Call) -> Answer:
    """What hosts ask for from a renewal on."""
    found = [each.pending_price for each in market.instances.values() if each.alive and each.pending_price]
    return ok(pending_price_increases=found)


def accept_price(market: Market, call: Call) -> Answer:
    instance = _with_increase(market, call)
    assert instance.pending_price is not None
    instance.dearer += instance.pending_price["new_price"] - instance.pending_price["current_price"]
    instance.pending_price = None
    return ok()


def reject_price(market: Market, call: Call) -> Answer:
    _with_increase(market, call).pending_price = None
    return ok()


def _with_increase(market: Market, call: Call) -> Instance:
    wanted = call.fields.get("pending_price_increase_id")
    for each in market.instances.values():
        if each.alive and each.pending_price and each.pending_price["id"] == wanted:
            return each
    raise Refusal(error(404, "not_found", "no such pending price increase"))
