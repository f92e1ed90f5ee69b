"""`llmhost offers` for people: the offers with what makes up each price, and what became of the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmhost.cli.views.quantities import UNKNOWN, count, dollars
from llmhost.core import durations

if TYPE_CHECKING:
    from rich.console import RenderableType

SHOWN = 10
TITLES = ("offer", "card", "card/h", "disk/h", "download", "ready in", "really/h", "in all", "reliability", "where", "")
LEFT = ("offer", "card", "where", "")


def view(data: dict[str, Any]) -> Iterable[RenderableType]:
    """The table, or with nothing that does only what speaks against the others."""
    from rich.text import Text

    yield Text(asked(data), style="bold")
    offers = data["offers"] if data["all"] else data["offers"][:SHOWN]
    if offers:
        yield _table(TITLES, [offer_row(offer) for offer in offers])
    more = len(data["offers"]) - len(offers)
    if more:
        yield f"and {more} more, with --all"
    yield from _others(data)
    if offers:
        yield ""
        yield f"Next:  {data['command']}    # another than the first: --offer ID"


def brief(data: dict[str, Any]) -> Iterable[RenderableType]:
    """What --quiet leaves: the ids, best first."""
    return [str(offer["id"]) for offer in data["offers"]]


def asked(data: dict[str, Any]) -> str:
    """`RTX 4090 · qwen3-coder:30b with 65,536 tokens · 4h · 50 GB of disk · credit $25.00`."""
    wish, fit = data["wish"], data["fit"]
    window = f" with {count(fit['context'])} tokens" if fit else ""
    parts = [
        " or ".join(wish["gpus"]) or (f"offer {wish['offer_id']}" if wish["offer_id"] else "any card"),
        f"{wish['model']}{window}" if wish["model"] else wish["backend"],
        durations.words(round(wish["hours"] * 3600)),
        f"{wish['disk_gb']:g} GB of disk",
    ]
    if data["credit_usd"] is not None:
        parts.append(f"credit {dollars(data['credit_usd'])}")
    return " · ".join(parts)


def offer_row(offer: dict[str, Any]) -> tuple[str, ...]:
    """One line of the table."""
    return (
        str(offer["id"]),
        offer["gpu"],
        _exact(offer["gpu_usd"]),
        _exact(offer["disk_usd"]),
        dollars(offer["download_usd"]),
        f"{offer['minutes_to_ready']:.0f} min",
        _exact(offer["effective_usd_per_hour"]),
        dollars(offer["total_usd"]),
        f"{offer['reliability'] * 100:.1f} %",
        offer["region"] or UNKNOWN,
        "; ".join(offer["notes"]),
    )


def why_row(why: dict[str, Any]) -> tuple[str, str]:
    """How many offers one thing speaks against, and what it is about one of them."""
    return str(why["offers"]), f"{why['text']}: one {why['example']}"


def _others(data: dict[str, Any]) -> Iterable[RenderableType]:
    rejected = data["rejected"]
    if not rejected:
        return
    yield ""
    kind = "other" if data["offers"] else "offer"
    yield f"{len(rejected)} {kind}{' does' if len(rejected) == 1 else 's do'} not do:"
    if data["all"]:
        yield _table(("offer", "card", "price/h", "where", ""), [_rejected_row(each) for each in rejected])
    else:
        yield _table(("offers", ""), [why_row(each) for each in data["why_not"]])


def _rejected_row(each: dict[str, Any]) -> tuple[str, ...]:
    why = "; ".join(reason["text"] for reason in each["reasons"])
    return str(each["id"]), each["gpu"], _exact(each["price_usd_per_hour"]), each["region"] or UNKNOWN, why


def _exact(amount: float) -> str:
    return f"${amount:.3f}"


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold", justify="left" if title in LEFT else "right")
    for row in rows:
        table.add_row(*row)
    return table
