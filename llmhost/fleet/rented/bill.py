"""What rented machines cost, reckoned from the ledger alone. Pure.

The market's own list of charges lags by hours (vast facts §1.5), so it is never asked. Prices are USD, times RFC 3339.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from llmhost.core.rentals import Rental

HOUR_S = 3600.0
# In `terms`: the prices that held later than the agreed one, `[[RFC 3339, USD an hour], …]`, oldest first.
PRICES = "prices"
# How far a boot is when the machine is running, and so fetches its model already (the model comes with the container's start).
FETCHING = ("ssh", "ollama", "model", "proxy", "ready")


@dataclass(frozen=True, slots=True)
class Line:
    """One machine on a bill. `usd_per_hour` is the price that holds at its end; `open` = it may still bill."""

    node_id: str
    fleet: str
    label: str
    instance_id: str | None
    gpu: str
    state: str
    hours: float
    usd_per_hour: float
    download_usd: float
    total_usd: float
    since: str | None
    until: str | None
    why: str | None
    open: bool


def spent(rental: Rental, until: datetime) -> float:
    """What it cost until then, in USD; what is written down once it is gone.

    Its price since it was rented (since the attempt, for one that may bill without our knowing) and its model's planned download. What was
    never bought costs nothing.
    """
    if rental.spent_usd is not None and not rental.is_open:
        return rental.spent_usd
    since = begun(rental)
    if since is None:
        return 0.0
    return _rent(rental, since, _end(rental, until)) + download(rental)


def begun(rental: Rental) -> datetime | None:
    """From when on it bills: None = it does not, and never did."""
    if rental.rented_at is not None:
        return moment(rental.rented_at)
    if rental.state in ("intent", "refused") or (rental.state == "gone" and rental.instance_id is None):
        return None
    return moment(rental.created_at)


def hours(rental: Rental, until: datetime) -> float:
    """How long it billed until then."""
    since = begun(rental)
    return 0.0 if since is None else _hours(since, _end(rental, until))


def download(rental: Rental) -> float:
    """What fetching its model costs as the host charges for it, once the machine ran; 0.0 when the terms do not say."""
    if begun(rental) is None or (rental.ready_at is None and rental.phase not in FETCHING):
        return 0.0
    return float(rental.terms.get("model_gb") or 0.0) * float(rental.terms.get("down_usd_per_gb") or 0.0)


def price(rental: Rental) -> float:
    """USD an hour now: as it was agreed, or as it was raised since."""
    later = rental.terms.get(PRICES) or ()
    return float(later[-1][1]) if later else rental.price_usd_per_hour


def raised(rental: Rental, usd_per_hour: float, at: datetime) -> dict[str, Any]:
    """The terms of a rental whose price is another from then on."""
    later = [*(rental.terms.get(PRICES) or ()), [at.isoformat(timespec="seconds"), usd_per_hour]]
    return {**rental.terms, PRICES: later}


def total(rentals: Iterable[Rental], until: datetime) -> float:
    """What all of them cost until then."""
    return sum(spent(rental, until) for rental in rentals)


def total_at(rentals: Iterable[Rental], then: datetime) -> float:
    """What all of them had cost by an earlier moment, those included that are gone since."""
    return sum(_spent_at(rental, then) for rental in rentals)


def hourly(rentals: Iterable[Rental]) -> float:
    """What those cost each hour that bill now, or may."""
    return sum(price(rental) for rental in rentals if rental.is_open and begun(rental) is not None)


def lines(rentals: Iterable[Rental], until: datetime) -> list[Line]:
    """The bill: one line for each machine that was ever bought, or may have been."""
    return [_line(rental, until) for rental in rentals if begun(rental) is not None]


def _spent_at(rental: Rental, then: datetime) -> float:
    since = begun(rental)
    if since is None or since >= then:
        return 0.0
    return spent(replace(rental, spent_usd=None), then)


def _line(rental: Rental, until: datetime) -> Line:
    since = begun(rental)
    return Line(
        node_id=rental.node_id,
        fleet=rental.fleet,
        label=rental.label,
        instance_id=None if rental.instance_id is None else str(rental.instance_id),
        gpu=rental.gpu,
        state=rental.state,
        hours=hours(rental, until),
        usd_per_hour=price(rental),
        download_usd=download(rental),
        total_usd=spent(rental, until),
        since=since.isoformat(timespec="seconds") if since else None,
        until=rental.ended_at,
        why=rental.why,
        open=rental.is_open,
    )


def _rent(rental: Rental, since: datetime, until: datetime) -> float:
    """Price by price: each holds from its moment to the next one's."""
    later = [(moment(at), float(usd)) for at, usd in rental.terms.get(PRICES) or ()]
    steps = [(since, rental.price_usd_per_hour), *later]
    ends = [*(at for at, _ in later), until]
    return sum(_hours(max(at, since), min(end, until)) * usd for (at, usd), end in zip(steps, ends, strict=True))


def _end(rental: Rental, until: datetime) -> datetime:
    ended = None if rental.is_open or rental.ended_at is None else moment(rental.ended_at)
    return until if ended is None else min(ended, until)


def _hours(since: datetime, until: datetime) -> float:
    # a clock that was set back must not earn money
    return max(0.0, (until - since).total_seconds()) / HOUR_S


def moment(text: str) -> datetime:
    """An RFC 3339 time; one without a zone is in UTC."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)
