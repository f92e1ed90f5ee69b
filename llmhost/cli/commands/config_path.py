"""`llmhost config path`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import typer

from llmhost.cli.dispatch import session_of
from llmhost.cli.session import Spec
from llmhost.core.result import Result


def run(ctx: typer.Context) -> Result:
    """Print the path of the configuration file, whether it exists or not."""
    path = session_of(ctx).paths.config_file
    return Result(data={"path": str(path), "exists": path.exists()})


def view(data: dict[str, Any]) -> Iterable[str]:
    return (data["path"],)


SPEC = Spec(run, ("llmhost config path", '$EDITOR "$(llmhost config path)"'), view)
