"""What the marketplace charges: the cards per second while they are held, the disk per second while it exists, traffic per GB."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.marketplace.instance import Instance
    from tests.support.marketplace.market import Market

HOUR = 3600.0


@dataclass(frozen=True)
class Span:
    """So many dollars an hour from `start` to `end` (Unix seconds)."""

    start: float
    end: float
    gpu: float
    disk: float

    def until(self, end: float) -> Span:
        return Span(self.start, max(self.start, min(self.end, end)), self.gpu, self.disk)

    @property
    def hours(self) -> float:
        return (self.end - self.start) / HOUR


@dataclass
class Bill:
    """All that one instance has cost so far. `down_gb` and `up_gb` are priced when they are added."""

    spans: list[Span] = field(default_factory=list)
    traffic: list[tuple[float, str, float, float]] = field(default_factory=list)

    def add(self, span: Span) -> None:
        """Goes on with the last span when nothing changed, so that the bill stays short."""
        last = self.spans[-1] if self.spans else None
        if last and last.end == span.start and (last.gpu, last.disk) == (span.gpu, span.disk):
            self.spans[-1] = Span(last.start, span.end, last.gpu, last.disk)
        elif span.end > span.start:
            self.spans.append(span)

    def add_traffic(self, at: float, direction: str, gigabytes: float, price: float) -> None:
        """`direction` is `bwd` or `bwu`, `price` dollars a GB."""
        self.traffic.append((at, direction, gigabytes, price))

    def amounts(self, until: float = float("inf")) -> dict[str, float]:
        """Dollars by `gpu`, `disk`, `bwd`, `bwu`."""
        spans = [span.until(until) for span in self.spans]
        sums = {
            "gpu": sum(s.gpu * s.hours for s in spans),
            "disk": sum(s.disk * s.hours for s in spans),
            "bwd": 0.0,
            "bwu": 0.0,
        }
        for at, direction, gigabytes, price in self.traffic:
            sums[direction] += gigabytes * price if at <= until else 0.0
        return sums

    def total(self, until: float = float("inf")) -> float:
        return sum(self.amounts(until).values())


@dataclass(frozen=True)
class Cost:
    """An instance that costs money now, or will when its host is back or its queued start fires."""

    id: int
    label: str | None
    dollars_per_hour: float
    actual_status: str | None
    machine_id: int


def accrue(instance: Instance, start: float, end: float) -> float:
    """Charge an instance from `start` to `end` at its rates of now; the dollars."""
    gpu, disk = instance.rates()
    if end <= start or not (gpu or disk):
        return 0.0
    instance.bill.add(Span(start, end, gpu, disk))
    return (gpu + disk) * (end - start) / HOUR


def cost_of(instance: Instance) -> Cost:
    status = instance.status["actual_status"]
    return Cost(instance.id, instance.label, sum(instance.rates()), status, instance.offer.machine_id)


def billing_now(market: Market) -> list[Cost]:
    """Every instance that exists: stopped ones bill their disk, and those of a lost host go on when it is back."""
    return [cost_of(each) for each in market.instances.values() if each.alive]
