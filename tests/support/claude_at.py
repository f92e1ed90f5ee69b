"""Becomes `claude` the way `llmhost claude` does, but sent where the command line says: `claude_at URL TOKEN MODEL ARGS…`."""

from __future__ import annotations

import sys

from llmhost.claude.environment import Route
from llmhost.claude.locate import find_claude
from llmhost.cli.argv import Invocation
from llmhost.cli.commands.claude import launch
from llmhost.cli.render import Renderer
from llmhost.cli.session import Session


def main() -> None:
    url, token, model, *args = sys.argv[1:]
    route = Route(url, token, model, 65_536, 8192)
    launch(Session(Invocation(command="claude"), Renderer(verbose=True)), str(find_claude(None)), args, route)


if __name__ == "__main__":
    main()
