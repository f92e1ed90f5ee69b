"""`llmhost up`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmhost.cli import rent_options as rented
from llmhost.cli.dispatch import session_of
from llmhost.cli.registry import later
from llmhost.cli.session import Session, Spec
from llmhost.cli.views.up import brief, plan_view, view
from llmhost.core.errors import UsageError
from llmhost.core.result import Result

if TYPE_CHECKING:
    from llmhost.core.settings import Settings
    from llmhost.fleet.plan import Plan, UpRequest
    from llmhost.fleet.remote_plan import RemotePlan
    from llmhost.fleet.rented.plan import RentedPlan

Provider = Annotated[
    str | None,
    typer.Option(
        "--provider",
        help="Where nodes run: vast (machines rented there), local (this machine) or ssh (machines of yours). [default: vast]",
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="The model to serve; pulled if it is not there. [default: the best one there]"),
]
Context = Annotated[int | None, typer.Option("--context", help="The window to load, in tokens.")]
BackendName = Annotated[
    str | None, typer.Option("--backend", help="ollama, or rehearsal (no model). [default: ollama where there is one]")
]
Port = Annotated[int | None, typer.Option("--port", help="The gateway's port. [default: 8001, or the next free one]")]
Count = Annotated[
    int | None, typer.Option("--count", help="How many nodes to have rented; on this machine, one. [default: 1]")
]
Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="user@host:port", help="A machine to serve on, reached over SSH; may be repeated."),
]
Identity = Annotated[
    str | None,
    typer.Option(
        "--identity", metavar="FILE", help="The private key to log in with. [default: llmhost's, the agent's]"
    ),
]
TransportName = Annotated[
    str | None,
    typer.Option(
        "--transport", help="What carries the links: openssh or sshtunnel. [default: openssh where there is an ssh]"
    ),
]
NoTunnel = Annotated[bool, typer.Option("--no-tunnel", help="Only set the machines up: no links, no gateway.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")]
OVER_SSH = "that is for machines reached over SSH."


def run(
    ctx: typer.Context,
    provider: Provider = None,
    gpu: rented.Gpu = None,
    count: Count = None,
    model: Model = None,
    context: Context = None,
    backend: BackendName = None,
    max_price: rented.MaxPrice = None,
    budget: rented.Budget = None,
    lease: rented.Lease = None,
    idle: rented.Idle = None,
    region: rented.Region = None,
    trust: rented.Trust = None,
    min_reliability: rented.MinReliability = None,
    disk: rented.Disk = None,
    image: rented.Image = None,
    offer: rented.OfferId = None,
    hosts: Hosts = None,
    identity: Identity = None,
    transport: TransportName = None,
    port: Port = None,
    no_tunnel: NoTunnel = False,
    dry_run: DryRun = False,
) -> Result:
    """Rent a machine (or start a node here, or on machines reached over SSH), put the gateway in front, wait until a request is answered.

    Shows what it is going to do and what it costs, and asks first. A second `up` that finds what was asked for changes nothing. Whatever
    fails on the way: what was rented is ended again, and that is verified.
    """
    from llmhost.fleet.hosts import HostWish
    from llmhost.fleet.plan import UpRequest

    if count is not None and count < 1:
        raise UsageError(f"--count must be a positive number (given: {count}).", hint="llmhost up --help")
    session = session_of(ctx)
    rents: dict[str, Any] = {
        "gpu": gpu,
        "max_price": max_price,
        "budget": budget,
        "lease": lease,
        "idle": idle,
        "regions": region,
        "trust": trust,
        "min_reliability": min_reliability,
        "disk": disk,
        "image": image,
    }
    settings = session.settings(
        provider=provider,
        model=model,
        context=context,
        backend=backend,
        gateway_port=port,
        identity=identity,
        transport=transport,
        **rents,
    )
    named = settings.backend if backend else None
    wish = HostWish(tuple(hosts or ()), identity, transport)
    rents |= {"offer": offer}
    some = any(value is not None for value in rents.values())
    request = UpRequest(provider, None, named, model, context, port, wish, not no_tunnel, count, offer, some)
    return _on(session, settings, request, rents, dry_run)


def _on(session: Session, settings: Settings, request: UpRequest, rents: dict[str, Any], dry_run: bool) -> Result:
    """Where the nodes are to run; what means nothing there is refused."""
    from llmhost.fleet.desired import SSH, VAST
    from llmhost.fleet.plan import recorded, which_provider

    where, _ = which_provider(request, settings, recorded(session.paths)[0])
    ssh = {"--host": request.hosts.hosts, "--identity": request.hosts.identity}
    if where == VAST:
        _refuse(ssh, OVER_SSH, "llmhost up --provider ssh --host user@host:port")
        return _rented(session, settings, request, dry_run)
    _refuse(
        {_option(name): value for name, value in rents.items()},
        "that is for rented machines.",
        "llmhost up --provider vast",
    )
    if where == SSH:
        return _remote(session, settings, request, dry_run)
    more = {"--transport": request.hosts.transport, "--no-tunnel": not request.tunnel}
    _refuse({**ssh, **more}, OVER_SSH, "llmhost up --provider ssh --host user@host:port")
    if (request.count or 1) > 1:
        raise later("more than one node on this machine")
    return _local(session, settings, request, dry_run)


def _option(name: str) -> str:
    return "--region" if name == "regions" else f"--{name.replace('_', '-')}"


def _refuse(given: dict[str, Any], why: str, hint: str) -> None:
    wrong = [option for option, value in given.items() if value]
    if wrong:
        raise UsageError(f"{', '.join(wrong)}: {why}", hint=hint)


def _local(session: Session, settings: Settings, request: UpRequest, dry_run: bool) -> Result:
    from llmhost.fleet.plan import make_plan
    from llmhost.fleet.up import up

    plan = make_plan(request, settings, session.paths)
    if dry_run:
        return _shown(plan)
    _agree(session, plan)
    with session.progress() as progress:
        return up(plan, settings, session.paths, progress)


def _remote(session: Session, settings: Settings, request: UpRequest, dry_run: bool) -> Result:
    from llmhost.fleet.remote import prepared

    with ExitStack() as stack:
        with session.progress() as progress:
            job = stack.enter_context(prepared(request, settings, session.paths, progress))
        if dry_run:
            return _shown(job.plan)
        _agree(session, job.plan)
        with session.progress() as progress:
            return job.carry_out(progress)


def _rented(session: Session, settings: Settings, request: UpRequest, dry_run: bool) -> Result:
    from llmhost.fleet.rented.prepare import prepare

    with session.progress() as progress:
        job = prepare(request, settings, session.paths, progress, dry=dry_run)
    if dry_run:
        return _shown(job.plan)
    _agree(session, job.plan)
    with session.progress() as progress:
        return job.carry_out(progress)


def _shown(plan: Plan | RemotePlan | RentedPlan) -> Result:
    return Result(data={"plan": plan.as_dict(), "nodes": []}, warnings=plan.warnings)


def _agree(session: Session, plan: Plan | RemotePlan | RentedPlan) -> None:
    session.renderer.explain(plan_view(plan.as_dict()))
    if not session.invocation.yes and plan.action != "keep":
        session.renderer.confirm("Do it?")


SPEC = Spec(
    run,
    (
        "llmhost up                                 # an RTX 4090 for four hours at most",
        "llmhost up --gpu H100 --lease 8h --budget 20 --dry-run",
        "llmhost up --provider ssh --host me@gpu.example --identity ~/.ssh/id_ed25519",
    ),
    view,
    brief=brief,
)
