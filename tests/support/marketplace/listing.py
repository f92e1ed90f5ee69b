"""Reading instances: the paged list, one instance, and the list of old that is gone."""

from __future__ import annotations

import base64
import json
from collections import Counter
from typing import Any

from tests.support.marketplace.answers import Answer, Call, Refusal, bad_query, error, no_such_instance, ok
from tests.support.marketplace.instance import Instance
from tests.support.marketplace.market import Market
from tests.support.marketplace.query import checked, ordered, passes
from tests.support.marketplace.rows import STORED, row

PAGE = 25
PAGE_OF_NONSENSE = 5  # what `limit=0` gets (the vendor's description)


def visible(market: Market, *, lagging: bool = True) -> list[Instance]:
    """What a read shows: new instances after the list's lag, destroyed ones for a few seconds more."""
    now, settings = market.clock.now(), market.settings
    lag = market.paced(settings.list_lag_s) if lagging else 0.0
    return [
        each
        for each in market.instances.values()
        if each.created + lag <= now
        and (each.destroyed_at is None or now < each.destroyed_at + market.paced(settings.vanish_s))
    ]


def listed(market: Market, call: Call) -> Answer:
    """`GET /api/v1/instances/`."""
    rows = [_row(market, each) for each in visible(market)]
    filters = checked(_json(call, "select_filters", {}), STORED)
    found = _in_order(call, [each for each in rows if passes(each, filters)], set(rows[0]) if rows else set())
    page, token = _page(found, call)
    counts = Counter(each["label"] or "" for each in found)
    return ok(
        instances_found=len(page),
        total_instances=len(found),
        label_counts=dict(counts),
        next_token=token,
        instances=[_columns(each, call) for each in page],
    )


def show(market: Market, call: Call) -> Answer:
    """`GET /api/v0/instances/{id}/`: an object with `instances`, which is null (or 404) for one that is not there."""
    found = [each for each in visible(market) if each.id == call.number]
    if found:
        return Answer(data={"instances": _row(market, found[0])})
    if market.settings.gone == "404":
        raise Refusal(no_such_instance(call.number))
    return Answer(data={"instances": None})


def old_list(market: Market, call: Call) -> Answer:
    """`GET /api/v0/instances/`: gone on some accounts (vast facts §1.4)."""
    if market.settings.v0_list == "410":
        raise Refusal(error(410, "deprecated_endpoint", "Use /api/v1/instances/ instead"))
    return Answer(data={"instances": [_row(market, each) for each in visible(market)]})


def contracts(market: Market, call: Call) -> Answer:
    """`POST /api/v0/contracts/fetch/`: those of one label."""
    label = call.fields.get("label")
    return ok(contracts=[_row(market, each) for each in visible(market) if each.label == label])


def _row(market: Market, instance: Instance) -> dict[str, Any]:
    return row(instance, market.clock.now(), market.clock.skew_s)


def _json(call: Call, name: str, default: Any) -> Any:
    try:
        value = json.loads(call.query.get(name) or json.dumps(default))
    except ValueError:
        raise Refusal(bad_query(name)) from None
    if not isinstance(value, type(default)):
        raise Refusal(bad_query(name))
    return value


def _in_order(call: Call, rows: list[dict[str, Any]], columns: set[str]) -> list[dict[str, Any]]:
    """The id is always the last word."""
    order = []
    for each in _json(call, "order_by", []):
        if not isinstance(each, dict) or (columns and each.get("col") not in columns):
            raise Refusal(bad_query(str(each)))
        order.append((each["col"], each.get("dir", "asc")))
    return ordered(rows, [*order, ("id", "asc")])


def _page(rows: list[dict[str, Any]], call: Call) -> tuple[list[dict[str, Any]], str | None]:
    """One page, and the token of the next: the last id of this page, as JSON in base64."""
    limit = _limit(call)
    start = _start(rows, call)
    page = rows[start : start + limit]
    more = start + limit < len(rows)
    return page, (base64.b64encode(json.dumps({"values": {"id": page[-1]["id"]}}).encode()).decode() if more else None)


def _limit(call: Call) -> int:
    try:
        limit = int(call.query.get("limit") or PAGE)
    except ValueError:
        raise Refusal(bad_query("limit")) from None
    return min(limit, PAGE) if limit > 0 else PAGE_OF_NONSENSE


def _start(rows: list[dict[str, Any]], call: Call) -> int:
    """Where the page after the token begins; in the order of ids also when the row of the token has gone meanwhile."""
    token = call.query.get("after_token")
    if not token:
        return 0
    try:
        last = int(json.loads(base64.b64decode(token, validate=True))["values"]["id"])
    except (ValueError, KeyError, TypeError):
        raise Refusal(Answer(400, {"error": "invalid_token", "msg": "Invalid pagination token"})) from None
    exact = next((place + 1 for place, each in enumerate(rows) if each["id"] == last), None)
    return exact if exact is not None else sum(each["id"] <= last for each in rows)


def _columns(shown: dict[str, Any], call: Call) -> dict[str, Any]:
    wanted = _json(call, "select_cols", ["*"])
    return shown if "*" in wanted else {key: shown.get(key) for key in wanted}
