"""What is asked of the search, and what is believed of its answer.

Numbers go as numbers: the vendor's own query language sends them as texts, which the market does not always apply (vast facts §1.5).
For the same reason what came back is checked again here. Only those filters are sent that hide nothing worth explaining to the user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from llmhost.providers.market import MarketOffer, OfferWish
from llmhost.providers.vast import rows
from llmhost.providers.vast.failures import VastTrouble
from llmhost.providers.vast.values import number, whole

Query = dict[str, Any]
# The market may cap a page at this, whatever `limit` says (vast facts §1.5).
CAP = 64
# As many as a minute of searches allows; at 64 each, dearer offers than those are of no interest.
MOST_PAGES = 6
_PRICE = "dph_total"
# Both words: a search that does not name it gets the verified ones alone (the vendor's description).
_VERIFIED_OR_NOT = {"in": [True, False]}


def query(wish: OfferWish, *, price: tuple[str, float] | None = None, narrow: bool = False) -> Query:
    """The body of one search, cheapest first. `price` is (operator, USD an hour), for the pages after the first.

    `narrow` asks for verified machines alone, with nothing but what the vendor's own client sends.
    """
    asked: Query = {
        "num_gpus": {"eq": 1},
        "rentable": {"eq": True},
        "rented": {"eq": False},
        "external": {"eq": False},
        "verified": {"eq": True} if narrow else dict(_VERIFIED_OR_NOT),
        "type": "on-demand",
        "order": [[_PRICE, "asc"]],
        "limit": CAP,
        "allocated_storage": float(wish.disk_gb),
    }
    if wish.gpus:
        asked["gpu_name"] = {"in": [market_name(each) for each in wish.gpus]}
    if price is not None:
        asked[_PRICE] = {price[0]: price[1]}
    return asked


def market_name(gpu: str) -> str:
    """`RTX 4090`, also for `RTX_4090`."""
    return " ".join(gpu.replace("_", " ").split())


def as_asked(offer: MarketOffer, wish: OfferWish) -> bool:
    """Whether the market kept to the filters that were sent."""
    names = {market_name(each).casefold() for each in wish.gpus}
    named = not names or market_name(offer.gpu).casefold() in names
    return named and offer.gpus == 1 and offer.rentable and not offer.rented


def read(page: Iterable[Any], wish: OfferWish) -> list[MarketOffer]:
    """The offers of the rows, in their order, each once; rows that are none, or not what was asked for, are left out."""
    found = {each.id: each for row in page if (each := rows.offer(row, wish.disk_gb)) and not _foreign(row)}
    return [each for each in found.values() if as_asked(each, wish)]


def all_rows(fetch: Callable[[tuple[str, float] | None], list[Any]]) -> list[Any]:
    """Every row, page by page from the cheapest on: `fetch(price)` gets one page.

    The next page begins at the last price, so that offers of the same price are not lost, and what comes again is left out. A page of
    nothing new, full of one price, is stepped over.
    """
    found: dict[int, Any] = {}
    price: tuple[str, float] | None = None
    for _ in range(MOST_PAGES):
        page = fetch(price)
        before = len(found)
        found |= {ask: row for row in page if (ask := _id(row)) is not None and ask not in found}
        last = _last_price(page)
        if len(page) < CAP or last is None:
            break
        if len(found) == before and price is not None and price[0] == "gt":
            break
        price = ("gte" if len(found) > before else "gt", last)
    return list(found.values())


def page_of(data: dict[str, Any]) -> list[Any]:
    """The rows of an answer. Raises VastTrouble when it has none."""
    offers = data.get("offers")
    if not isinstance(offers, list):
        raise VastTrouble("vast.ai's search has no list of offers.", code="vast_answer")
    return offers


def _id(row: Any) -> int | None:
    return whole(row.get("id")) if isinstance(row, dict) else None


def _last_price(page: list[Any]) -> float | None:
    prices = [found for row in page if isinstance(row, dict) and (found := number(row.get(_PRICE))) is not None]
    return max(prices) if prices else None


def _foreign(row: Any) -> bool:
    """An offer from outside the platform, or one for bids: neither is asked for."""
    return row.get("external") is True or row.get("is_bid") is True
