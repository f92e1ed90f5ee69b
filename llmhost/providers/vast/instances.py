"""The list of everything rented: whole, or an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmhost.providers.market import Instance
from llmhost.providers.vast import rows
from llmhost.providers.vast.failures import VastTrouble
from llmhost.providers.vast.values import text, whole

# Never the list of v0, which is gone on some accounts (vast facts §1.4).
PATH = "/api/v1/instances/"
PAGE = 25  # the market's most (vast facts §1.5)
MOST_PAGES = 400


def query(token: str | None) -> dict[str, Any]:
    """Of one page, in the order of ids: then what is rented meanwhile is on the last one."""
    asked: dict[str, Any] = {"select_filters": {}, "order_by": [{"col": "id", "dir": "asc"}], "limit": PAGE}
    return asked if token is None else asked | {"after_token": token}


def all_instances(fetch: Callable[[str | None], dict[str, Any]]) -> list[Instance]:
    """Every instance by id, each once: `fetch(token)` gets one page.

    Raises VastTrouble when a page has no list, a row no id, the pages go round in a circle, or fewer came than the market counts.
    """
    found: dict[int, dict[str, Any]] = {}
    seen: set[str | None] = set()
    token: str | None = None
    while token not in seen and len(seen) < MOST_PAGES:
        seen.add(token)
        data = fetch(token)
        for row in _page(data):
            _merge(found, row)
        token = text(data.get("next_token"))
        if token is None:
            _check_count(data, len(found))
            return [rows.instance(found[number]) for number in sorted(found)]
    raise VastTrouble("vast.ai's list of instances has no end.", code="vast_answer")


def _page(data: dict[str, Any]) -> list[Any]:
    page = data.get("instances")
    if not isinstance(page, list):
        raise VastTrouble("vast.ai's answer has no list of instances.", code="vast_answer", passing=True)
    return page


def _merge(found: dict[int, dict[str, Any]], row: Any) -> None:
    """A row that comes again adds what the first did not say."""
    number = rows.instance(row).id
    known = found.setdefault(number, {})
    known |= {name: value for name, value in row.items() if known.get(name) is None}


def _check_count(data: dict[str, Any], have: int) -> None:
    """By the last page's count: instances may come and go while the pages are read."""
    counted = whole(data.get("total_instances"))
    if counted is not None and have < counted:
        raise VastTrouble(
            f"vast.ai counts {counted} instances and lists {have} of them.", code="vast_answer", passing=True
        )
