"""`llmhost cost`: what was spent, on which machine, for how many requests, and what that would have cost elsewhere. Asks nobody outside."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import datetime, timedelta
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

from llmhost.core.paths import Paths
from llmhost.core.result import Result
from llmhost.core.secrets import read
from llmhost.fleet.desired import GATEWAY
from llmhost.fleet.observed import Observed, observe
from llmhost.fleet.rented import bill
from llmhost.fleet.rented.books import Books
from llmhost.fleet.rented.list_prices import Tokens, compared

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

METRICS_S = 2.0
_COUNTED = re.compile(r'^llmhost_tokens_total\{[^}]*type="(?P<type>\w+)"[^}]*\} (?P<count>[0-9.eE+]+)$', re.MULTILINE)


def cost(settings: Settings, paths: Paths) -> Result:
    """`data` = `{total_usd, price_usd_per_hour, fleets, nodes, requests, compared}`, all fleets.

    `requests` is what the gateway counted since its start, and what all machines cost in that time: null where no gateway runs. Raises
    LlmhostError when the ledger cannot be read.
    """
    seen = observe(paths, None)
    books = seen.books
    asked = _requests(seen, paths)
    lines = bill.lines(books.rentals, books.now)
    data = {
        "total_usd": round(sum(line.total_usd for line in lines), 6),
        "price_usd_per_hour": round(bill.hourly(books.rentals), 6),
        "fleets": _fleets(books, settings.fleet),
        "nodes": [{name: _rounded(value) for name, value in asdict(line).items()} for line in lines],
        "requests": asked,
        "compared": compared(Tokens(**asked["tokens"]), asked["cost_usd"]) if asked and asked["tokens"] else [],
    }
    return Result(data)


def _fleets(books: Books, named: str) -> list[dict[str, Any]]:
    """Every fleet that ever rented, and the one that is meant; `spent_usd` is since its terms were set, which its budget is for."""
    found = []
    for name in sorted({named, *(rental.fleet for rental in books.rentals)}):
        standing = books.standing(name)
        rentals = [rental for rental in books.rentals if rental.fleet == name]
        found.append(
            {
                "name": name,
                "total_usd": round(bill.total(rentals, books.now), 6),
                "spent_usd": round(standing.spent_usd, 6),
                "budget_usd": standing.budget_usd,
                "price_usd_per_hour": round(standing.usd_per_hour, 6),
            }
        )
    return found


def _requests(seen: Observed, paths: Paths) -> dict[str, Any] | None:
    gateway = seen.children.get(GATEWAY) or {}
    reading = gateway.get("reading")
    if not reading:
        return None
    count, since = int(reading["requests"]["total"]), seen.books.now - timedelta(seconds=float(reading["uptime_s"]))
    paid = _paid_since(seen.books, since)
    tokens = _tokens(gateway["port"], paths)
    return {
        "total": count,
        "since": since.isoformat(timespec="seconds"),
        "cost_usd": round(paid, 6),
        "usd_per_request": round(paid / count, 6) if count else None,
        "tokens": asdict(tokens) if tokens else None,
    }


def _paid_since(books: Books, since: datetime) -> float:
    """What all machines cost from then until now."""
    return bill.total(books.rentals, books.now) - bill.total_at(books.rentals, since)


def _tokens(port: int, paths: Paths) -> Tokens | None:
    """As the gateway of this machine has counted them; None when it does not say."""
    token = read(paths.gateway_token_file)
    connection = HTTPConnection("127.0.0.1", port, timeout=METRICS_S)
    try:
        connection.request("GET", "/metrics", headers={"authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
    if answer.status != HTTPStatus.OK:
        return None
    counts = {"input": 0, "output": 0, "reused": 0}
    for found in _COUNTED.finditer(text):
        counts[found["type"]] = counts.get(found["type"], 0) + int(float(found["count"]))
    return Tokens(counts["input"], counts["reused"], counts["output"])


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value
