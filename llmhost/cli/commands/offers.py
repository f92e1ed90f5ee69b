"""`llmhost offers`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.rent_options import Disk, Gpu, Lease, MaxPrice, MinReliability, OfferId, Region, Trust
from llmhost.cli.session import OPTIONS, Session, Spec
from llmhost.cli.views.offers import brief, view
from llmhost.core.result import Result

if TYPE_CHECKING:
    from llmhost.core.rentals import MachineNote
    from llmhost.core.settings import Settings
    from llmhost.fleet.offers import Survey

Model = Annotated[
    str | None, typer.Option("--model", help="The model that is to run there. [default: qwen3-coder:30b]")
]
Context = Annotated[int | None, typer.Option("--context", help="The window it needs, in tokens.")]
Backend = Annotated[str | None, typer.Option("--backend", help="ollama, or rehearsal (no model, any card).")]
All = Annotated[bool, typer.Option("--all", help="Show every offer, and why each of the others does not do.")]


def run(
    ctx: typer.Context,
    gpu: Gpu = None,
    max_price: MaxPrice = None,
    region: Region = None,
    trust: Trust = None,
    min_reliability: MinReliability = None,
    disk: Disk = None,
    model: Model = None,
    context: Context = None,
    backend: Backend = None,
    lease: Lease = None,
    offer: OfferId = None,
    everything: All = False,
) -> Result:
    """Show what is for rent, the cheapest for the hours of the lease first, with what makes up each price; rents nothing.

    What an hour really costs is all that is paid, the download of the model and the time until it is ready included, by the hours of the
    lease. The order counts unreliable machines as dearer, and those with fast graphics memory as cheaper.
    """
    flags: dict[str, Any] = {
        "gpu": gpu,
        "max_price": max_price,
        "regions": region,
        "trust": trust,
        "min_reliability": min_reliability,
        "disk": disk,
        "model": model,
        "context": context,
        "backend": backend,
        "lease": lease,
    }
    session = session_of(ctx)
    settings = session.settings(**flags)
    found = _survey(session, settings, offer)
    refusal = found.refusal
    data = found.as_dict() | {"all": everything, "command": _command(settings, flags, offer)}
    if refusal is None:
        return Result(data, list(found.notes))
    return Result(data, list(found.notes), [refusal.as_dict()], refusal.exit_code)


def _command(settings: Settings, flags: dict[str, Any], offer: int | None) -> str:
    """The `up` that rents what was asked for here."""
    given = {"provider": None if settings.provider == "vast" else "vast", **flags, "offer": offer}
    options = {
        OPTIONS.get(name, f"--{name.replace('_', '-')}"): value for name, value in given.items() if value is not None
    }
    words = (word for option, value in options.items() for word in (option, _written(value)))
    return shlex.join(["llmhost", "up", *words])


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _survey(session: Session, settings: Settings, offer: int | None) -> Survey:
    from llmhost.fleet.offers import survey
    from llmhost.fleet.rented.request import from_settings
    from llmhost.providers.vast.market import open_market

    request = from_settings(settings, offer)
    with session.progress() as progress:
        market = open_market(settings, progress=progress)
        return survey(request, settings, market, _machines(session), progress)


def _machines(session: Session) -> dict[int, MachineNote]:
    """What is remembered of machines; looking creates no ledger."""
    from llmhost.core.ledger import Ledger

    ledger = Ledger.open_existing(session.paths.ledger_file)
    if ledger is None:
        return {}
    with ledger:
        return ledger.rentals.machines()


SPEC = Spec(
    run,
    (
        "llmhost offers --gpu H100 --lease 2h",
        "llmhost offers --gpu RTX_3090 --max-price 0.25 --region US,CA --all",
        "llmhost offers --json | jq '.data.offers[0]'",
    ),
    view,
    brief=brief,
)
