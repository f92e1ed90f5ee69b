"""The query language of the search and of the instance list: `{column: {operator: value}}`, order and types."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter
from typing import Any

from tests.support.marketplace.answers import Refusal, bad_query

Row = dict[str, Any]


def _is_in(have: Any, wanted: Any) -> bool:
    return any(equal(have, each) for each in wanted)


def equal(have: Any, wanted: Any) -> bool:
    """As the marketplace compares: numbers may come as strings, a missing flag is false, a name may have `_` for spaces."""
    if isinstance(have, bool) or (have is None and isinstance(wanted, bool)):
        return bool(have) == _truth(wanted)
    if isinstance(have, int | float):
        return have == _number(wanted)
    if isinstance(have, str) and isinstance(wanted, str):
        return have.replace("_", " ") == wanted.replace("_", " ")
    return bool(have == wanted)


def _truth(value: Any) -> bool:
    return value.lower() == "true" if isinstance(value, str) else bool(value)


def _number(value: Any) -> float:
    """Raises ValueError for what is none."""
    return float("nan") if value is None else float(value)


def _compared(test: Callable[[float, float], bool]) -> Callable[[Any, Any], bool]:
    return lambda have, wanted: have is not None and test(_number(have), _number(wanted))


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": equal,
    "neq": lambda have, wanted: not equal(have, wanted),
    "gt": _compared(lambda have, wanted: have > wanted),
    "gte": _compared(lambda have, wanted: have >= wanted),
    "lt": _compared(lambda have, wanted: have < wanted),
    "lte": _compared(lambda have, wanted: have <= wanted),
    "in": _is_in,
    "notin": lambda have, wanted: not _is_in(have, wanted),
}


def passes(row: Row, filters: dict[str, dict[str, Any]]) -> bool:
    return all(OPERATORS[op](row.get(key), value) for key, tests in filters.items() for op, value in tests.items())


def checked(filters: dict[str, Any], allowed: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The filters, once every column and operator is known; raises Refusal (400 invalid_request)."""
    names = set(allowed)
    for key, tests in filters.items():
        if key not in names or not isinstance(tests, dict):
            raise Refusal(bad_query(key))
        for operator, value in tests.items():
            if operator not in OPERATORS or not _sensible(operator, value):
                raise Refusal(bad_query(f"{key}.{operator}"))
    return filters


def _sensible(operator: str, value: Any) -> bool:
    if operator in ("in", "notin"):
        return isinstance(value, list)
    if operator in ("eq", "neq"):
        return not isinstance(value, list | dict)
    try:
        _number(value)
    except (TypeError, ValueError):
        return False
    return True


def ordered(rows: list[Row], order: list[tuple[str, str]]) -> list[Row]:
    """By the first column, then the next; rows without a value come last. The order they came in breaks ties."""
    for key, direction in reversed(order):
        there = [row for row in rows if row.get(key) is not None]
        missing = [row for row in rows if row.get(key) is None]
        rows = sorted(there, key=itemgetter(key), reverse=direction == "desc") + missing
    return rows
