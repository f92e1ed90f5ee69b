"""`llmhost up`."""

from __future__ import annotations

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
    from llmhost.fleet.plan import Plan

Provider = Annotated[str | None, typer.Option("--provider", help="Where nodes run; this release knows: local.")]
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
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")]

# Options of the public contract that mean something only for rented machines or machines reached by ssh.
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
    *("--offer", "--host", "--identity", "--no-tunnel"),
)


def run(
    ctx: typer.Context,
    provider: Provider = None,
    model: Model = None,
    context: Context = None,
    backend: BackendName = None,
    port: Port = None,
    count: Count = 1,
    dry_run: DryRun = False,
) -> Result:
    """Start a node and the gateway in front of it, and wait until a request is answered.

    Shows what it is going to do and asks first. A second `up` that finds what was asked for changes nothing.
    """
    from llmhost.fleet.plan import UpRequest, make_plan

    if count < 1:
        raise UsageError(f"--count must be a positive number (given: {count}).", hint="llmhost up --help")
    if count > 1:
        raise later("more than one node")
    session = session_of(ctx)
    settings = session.settings(provider=provider, model=model, context=context, backend=backend, gateway_port=port)
    request = UpRequest(provider, None, settings.backend if backend else None, model, context, port)
    plan = make_plan(request, settings, session.paths)
    if dry_run:
        return Result(data={"plan": plan.as_dict(), "nodes": []}, warnings=plan.warnings)
    return _up(session, settings, plan)


def _up(session: Session, settings: Settings, plan: Plan) -> Result:
    from llmhost.fleet.up import up

    session.renderer.explain(plan_view(plan.as_dict()))
    if not session.invocation.yes and plan.action != "keep":
        session.renderer.confirm("Do it?")
    with session.progress() as progress:
        return up(plan, settings, session.paths, progress)


SPEC = Spec(
    run,
    (
        "llmhost up --provider local",
        "llmhost up --provider local --backend rehearsal --yes     # no model: proves the way",
        "llmhost up --provider local --model qwen3-coder:30b --context 65536",
    ),
    view,
    later_options=LATER_OPTIONS,
    brief=brief,
)
