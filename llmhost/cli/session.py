"""What a command has at hand besides its own options: where things are, how to print, what was asked for globally."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmhost.cli.argv import Invocation
from llmhost.cli.render import Renderer
from llmhost.core.paths import Paths
from llmhost.core.progress import Progress
from llmhost.core.result import Result

if TYPE_CHECKING:
    from rich.console import RenderableType

    from llmhost.core.settings import Settings

# Options that are not called as their setting is.
OPTIONS = {"gateway_port": "--port", "api_port": "--port", "regions": "--region"}


def _nothing(data: dict[str, Any]) -> Iterable[RenderableType]:
    return ()


@dataclass(frozen=True, slots=True)
class Spec:
    """A command: `run(ctx, …options)` returns a Result (whose data `view` shows in text mode) and its docstring is the help.

    `brief` is what --quiet leaves of the view. `later_options` are options of the public contract that a later release brings.
    """

    run: Callable[..., Result]
    examples: tuple[str, ...]
    view: Callable[[dict[str, Any]], Iterable[RenderableType]] = _nothing
    later_options: tuple[str, ...] = ()
    brief: Callable[[dict[str, Any]], Iterable[RenderableType]] | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """One run of `llmhost`."""

    invocation: Invocation
    renderer: Renderer
    paths: Paths = field(default_factory=Paths.from_environment)

    def settings(self, *, lenient: bool = False, **flags: Any) -> Settings:
        """The effective settings under these flags. Warns about names that look like settings and are none.

        `lenient`: for looking and for ending, which only need to know the fleet; what is wrong elsewhere is a warning then.
        """
        from llmhost.core.settings import load_settings

        settings = load_settings({"fleet": self.invocation.fleet, **flags}, options=OPTIONS, lenient=lenient)
        for warning in settings.warnings:
            self.renderer.warning(warning)
        return settings

    def progress(self) -> AbstractContextManager[Progress]:
        """Where long work reports; its line is gone when the block ends."""
        from llmhost.cli.progress import open_progress

        return open_progress(self.renderer)
