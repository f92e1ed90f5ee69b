"""`llmhost gc`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Spec
from llmhost.cli.views.quantities import dollars
from llmhost.core.result import Result


def run(ctx: typer.Context) -> Result:
    """Find machines that this installation rented and no fleet knows of, and end them after a yes. Others' are only listed.

    Ends with 6 when one of them may still bill.
    """
    from llmhost.fleet.gc import look_for_orphans
    from llmhost.providers.vast.market import open_market

    session = session_of(ctx)
    settings = session.settings()
    market = open_market(settings)
    with session.progress() as progress, look_for_orphans(settings, session.paths, market, progress) as found:
        if found.orphans and not session.invocation.yes:
            session.renderer.explain(f"not in any fleet: {_text(one)}" for one in found.orphans)
            session.renderer.confirm(f"Destroy {len(found.orphans)}?")
        return found.end(progress)


def view(data: dict[str, Any]) -> Iterable[str]:
    for one in data.get("others") or ():
        yield f"not ours, left alone: {_text(one)}"
    if data and not data["destroyed"]:
        yield "nothing of this installation bills outside of its fleets"
    for one in data.get("destroyed") or ():
        state = "is gone" if one["verified"] else "MAY STILL BILL"
        yield f"{one['instance_id']} {state}"


def _text(one: dict[str, Any]) -> str:
    label = one["label"] or "no label"
    return f"{one['instance_id']}  {one['gpu'] or 'unknown GPU'}  {dollars(one['price_usd_per_hour'])}/h  {label}"


SPEC = Spec(run, ("llmhost gc", "llmhost gc --yes", "llmhost gc --json --yes | jq .data.destroyed"), view)
