"""`llmhost up`."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

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

Provider = Annotated[
    str | None, typer.Option("--provider", help="Where nodes run: local (this machine) or ssh (machines of yours).")
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
Count = Annotated[int, typer.Option("--count", help="How many nodes; on this machine, one.")]
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

# Options of the public contract that mean something only for rented machines.
LATER_OPTIONS = (
    *(
        "--gpu",
        "--max-price",
        "--budget",
        "--lease",
        "--idle",
        "--region",
        "--trust",
        "--min-reliability",
        "--disk",
        "--image",
    ),
    "--offer",
)


def run(
    ctx: typer.Context,
    provider: Provider = None,
    model: Model = None,
    context: Context = None,
    backend: BackendName = None,
    port: Port = None,
    count: Count = 1,
    hosts: Hosts = None,
    identity: Identity = None,
    transport: TransportName = None,
    no_tunnel: NoTunnel = False,
    dry_run: DryRun = False,
) -> Result:
    """Start a node here, or on machines reached over SSH, and the gateway in front; wait until a request is answered.

    Shows what it is going to do and asks first. A second `up` that finds what was asked for changes nothing; another `--host` adds a node.
    """
    from llmhost.fleet.desired import SSH
    from llmhost.fleet.hosts import HostWish
    from llmhost.fleet.plan import UpRequest, recorded, which_provider

    if count < 1:
        raise UsageError(f"--count must be a positive number (given: {count}).", hint="llmhost up --help")
    session = session_of(ctx)
    settings = session.settings(
        provider=provider,
        model=model,
        context=context,
        backend=backend,
        gateway_port=port,
        identity=identity,
        transport=transport,
    )
    wish = HostWish(tuple(hosts or ()), identity, transport)
    named = settings.backend if backend else None
    request = UpRequest(provider, None, named, model, context, port, wish, not no_tunnel)
    where, _ = which_provider(request, settings, recorded(session.paths)[0])
    if where == SSH:
        return _remote(session, settings, request, dry_run)
    _refuse_remote_options(hosts, identity, transport, no_tunnel)
    if count > 1:
        raise later("more than one node on this machine")
    return _local(session, settings, request, dry_run)


def _refuse_remote_options(
    hosts: list[str] | None, identity: str | None, transport: str | None, no_tunnel: bool
) -> None:
    given = {"--host": hosts, "--identity": identity, "--transport": transport, "--no-tunnel": no_tunnel}
    wrong = [option for option, value in given.items() if value]
    if wrong:
        raise UsageError(
            f"{', '.join(wrong)}: that is for machines reached over SSH.",
            hint="llmhost up --provider ssh --host user@host:port",
        )


def _local(session: Session, settings: Settings, request: UpRequest, dry_run: bool) -> Result:
    from llmhost.fleet.plan import make_plan
    from llmhost.fleet.up import up

    plan = make_plan(request, settings, session.paths)
    if dry_run:
        return Result(data={"plan": plan.as_dict(), "nodes": []}, warnings=plan.warnings)
    _agree(session, plan)
    with session.progress() as progress:
        return up(plan, settings, session.paths, progress)


def _remote(session: Session, settings: Settings, request: UpRequest, dry_run: bool) -> Result:
    from llmhost.fleet.remote import prepared

    with ExitStack() as stack:
        with session.progress() as progress:
            job = stack.enter_context(prepared(request, settings, session.paths, progress))
        if dry_run:
            return Result(data={"plan": job.plan.as_dict(), "nodes": []}, warnings=job.plan.warnings)
        _agree(session, job.plan)
        with session.progress() as progress:
            return job.carry_out(progress)


def _agree(session: Session, plan: Plan | RemotePlan) -> None:
    session.renderer.explain(plan_view(plan.as_dict()))
    if not session.invocation.yes and plan.action != "keep":
        session.renderer.confirm("Do it?")


SPEC = Spec(
    run,
    (
        "llmhost up --provider local",
        "llmhost up --provider local --backend rehearsal --yes     # no model: proves the way",
        "llmhost up --provider ssh --host me@gpu.example --identity ~/.ssh/id_ed25519",
    ),
    view,
    later_options=LATER_OPTIONS,
    brief=brief,
)
