"""`POST /bundles/`: which offers there are, at what price."""

from __future__ import annotations

from typing import Any

from tests.support.marketplace.answers import JSON, Answer, Call, Refusal, bad_query, error
from tests.support.marketplace.market import Market
from tests.support.marketplace.offers import DEFAULT_STORAGE_GB
from tests.support.marketplace.query import Row, checked, ordered, passes

PAGE = 64  # whatever `limit` says (vast facts §1.5)
TYPES = {"on-demand": False, "ondemand": False, "reserved": False, "bid": True, "interruptible": True}
# The vendor's description gives these defaults to a search that does not name them.
DEFAULTS = {"verified": {"eq": True}, "rentable": {"eq": True}, "rented": {"eq": False}}
_NOT_FILTERS = ("limit", "type", "order", "allocated_storage", "disable_bundling", "select_cols")


def search(market: Market, call: Call) -> Answer:
    """200 with `offers`, at most 64 of them; 400 `invalid_request`."""
    if call.headers.get("content-type") != JSON or not isinstance(call.body, dict):
        raise Refusal(error(400, "invalid_request", "Invalid json body"))
    wish = call.fields
    storage = _positive(wish, "allocated_storage", DEFAULT_STORAGE_GB)
    as_bid = TYPES.get(wish.get("type") or "on-demand")
    if as_bid is None:
        raise Refusal(bad_query("type"))
    now = market.clock.told()
    return Answer(data={"offers": _found(market, wish, [o.row(now, storage, as_bid=as_bid) for o in market.offers])})


def _found(market: Market, wish: dict[str, Any], rows: list[Row]) -> list[Row]:
    columns = {key for row in rows[:1] for key in _askable(row)}
    asked = {key: value for key, value in wish.items() if key not in _NOT_FILTERS}
    filters = checked(DEFAULTS | asked, columns if rows else {*DEFAULTS, *asked})
    heard = {_column(key, tests): tests for key, tests in filters.items() if key not in market.deaf_to}
    order = _order(wish.get("order") or [["score", "desc"]], columns)
    limit = min(int(_positive(wish, "limit", PAGE)), PAGE)
    return ordered([row for row in rows if passes(_askable(row), heard)], order)[:limit]


def _askable(row: Row) -> Row:
    """The row with the columns that can be asked for and are not shown."""
    return row | {
        "verified": row["verification"] == "verified",
        "datacenter": row["hosting_type"] == 1,
        "ubuntu_version": row["os_version"],
        "country": row["geolocation"][-2:],
    }


def _column(key: str, tests: dict[str, Any]) -> str:
    """A place is asked for by the two letters of its country (the vendor's description), or in full."""
    wanted = [each for value in tests.values() for each in (value if isinstance(value, list) else [value])]
    return "country" if key == "geolocation" and all(len(str(each)) == 2 for each in wanted) else key


def _order(order: Any, columns: set[str]) -> list[tuple[str, str]]:
    for each in order:
        if not (isinstance(each, list) and len(each) == 2 and (each[0] in columns or not columns)):
            raise Refusal(bad_query(str(each)))
    return [(key, direction) for key, direction in order]


def _positive(wish: dict[str, Any], key: str, default: float) -> float:
    try:
        return float(wish.get(key) or default)
    except (TypeError, ValueError):
        raise Refusal(bad_query(key)) from None
