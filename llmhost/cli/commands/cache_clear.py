"""`llmhost cache clear`."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Spec
from llmhost.core.result import Result


class Scope(StrEnum):
    exact = "exact"
    semantic = "semantic"
    all = "all"


ScopeOption = Annotated[Scope, typer.Option("--scope", help="Which answers.")]


def run(ctx: typer.Context, scope: ScopeOption = Scope.all) -> Result:
    """Delete cached answers of the running gateway.

    Only llmhost's own keys of its namespace are touched, whatever else the Redis holds.
    """
    from llmhost.fleet.access import gateway_request

    session = session_of(ctx)
    settings = session.settings(lenient=True)
    body = {"scope": scope.value}
    found = gateway_request(settings, session.paths, "POST", "/internal/cache/clear", body)
    return Result(data={"scope": scope.value, "deleted": found["deleted"]})


def view(data: dict[str, Any]) -> Iterable[str]:
    return (f"{data['deleted']} answers deleted",)


SPEC = Spec(run, ("llmhost cache clear", "llmhost cache clear --scope exact"), view, later_options=("--namespace",))
