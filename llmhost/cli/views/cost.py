"""`llmhost cost` for people: the machines, the fleets, the requests, and the prices elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmhost.cli.views.quantities import UNKNOWN, count, dollars, moment

if TYPE_CHECKING:
    from rich.console import RenderableType


def view(data: dict[str, Any]) -> Iterable[RenderableType]:
    """The panels of a bill."""
    if not data:
        return
    if not data["nodes"]:
        yield "nothing was ever rented"
    else:
        yield _machines(data["nodes"])
        yield f"all together {dollars(data['total_usd'])}, now {dollars(data['price_usd_per_hour'])}/h"
        yield from (fleet_text(fleet) for fleet in data["fleets"] if fleet["total_usd"])
    if data["requests"]:
        yield requests_text(data["requests"])
    yield from (compared_text(one) for one in data["compared"] if one["would_have_cost_usd"])


def machine_row(node: dict[str, Any]) -> tuple[str, ...]:
    """One line of the bill."""
    download = dollars(node["download_usd"]) if node["download_usd"] else UNKNOWN
    state = node["state"] if node["open"] or not node["why"] else f"{node['state']}: {node['why']}"
    return (
        node["node_id"],
        node["fleet"],
        node["instance_id"] or UNKNOWN,
        node["gpu"],
        moment(node["since"]),
        f"{node['hours']:.2f} h",
        f"${node['usd_per_hour']:.3f}/h",
        download,
        dollars(node["total_usd"]),
        state,
    )


def fleet_text(fleet: dict[str, Any]) -> str:
    """One fleet's sums."""
    budget = f" of a budget of {dollars(fleet['budget_usd'])}" if fleet["budget_usd"] else ""
    now = f", {dollars(fleet['spent_usd'])}{budget} since its last start" if fleet["spent_usd"] else ""
    return f"fleet {fleet['name']}: {dollars(fleet['total_usd'])}{now}"


def requests_text(asked: dict[str, Any]) -> str:
    """What a request costs."""
    each = "" if asked["usd_per_request"] is None else f", ${asked['usd_per_request']:.4f} each"
    return f"since {moment(asked['since'])}: {count(asked['total'])} requests for {dollars(asked['cost_usd'])}{each}"


def compared_text(one: dict[str, Any]) -> str:
    """The same tokens elsewhere."""
    prices = f"${one['input_usd_per_mtok']:g}/${one['output_usd_per_mtok']:g} for a million tokens, {one['as_of']}"
    saved = one["saved_usd"]
    kept = "" if saved is None else f", {dollars(abs(saved))} {'less' if saved >= 0 else 'more'} here"
    return f"the same tokens by {one['name']} ({prices}): {dollars(one['would_have_cost_usd'])}{kept}"


def _machines(nodes: list[dict[str, Any]]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("node", "fleet", "instance", "GPU", "since", "time", "price", "download", "spent", "state"):
        table.add_column(title, overflow="fold")
    for node in nodes:
        table.add_row(*machine_row(node))
    return table
