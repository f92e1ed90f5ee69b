"""From the gateway that is up to what Claude Code needs to know of it; shared by `claude` and `env`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmhost.claude.environment import Route
from llmhost.claude.user_settings import managed_file, read_file, settings_files, variables
from llmhost.cli.session import Session

if TYPE_CHECKING:
    from llmhost.core.settings import Settings

ROUTING = ("ANTHROPIC_BASE_URL", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_MODEL")


def open_route(session: Session, settings: Settings, model: str | None = None) -> Route:
    """The way to the gateway, which is brought back if it crashed. Raises NotReady when no fleet is up.

    `model`: one of the fleet's that the whole session is to have, its side traffic too, so that two models need not take turns; any other
    name (Claude Code's own `opus`, say) stands for the fleet's main one.
    """
    from llmhost.fleet.access import ensure_gateway, offered_model

    with session.progress() as progress:
        access = ensure_gateway(settings, session.paths, progress)
        found = offered_model(settings, session.paths, model) if model else None
    name, context = found or (access.model, access.context)
    return Route(access.url, access.token, name, context, settings.claude_max_output_tokens)


def user_variables(given: dict[str, Any]) -> dict[str, str]:
    """What the user's settings files, and a document given with `--settings`, put into Claude Code's environment."""
    found: dict[str, str] = {}
    for path in settings_files(os.environ, Path()):
        found |= variables(read_file(path) or {})
    return found | variables(given)


def warn_of_managed(session: Session) -> None:
    """Say so when an administrator's settings send Claude Code elsewhere: nothing can be done about it from here."""
    path = managed_file()
    taken = [name for name in ROUTING if path and name in variables(read_file(path) or {})]
    if taken:
        session.renderer.warning(f"{path} sets {', '.join(taken)}, which wins over llmhost; requests may go elsewhere.")
