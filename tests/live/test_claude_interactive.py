"""Claude Code as most people use it: in a terminal."""

from __future__ import annotations

import json

from tests.support.stack import Stack
from tests.support.terminal import Terminal


def trusted_home(stack: Stack, folder: str) -> None:
    """What a person has answered once: the theme, and that this folder may be trusted."""
    config = stack.home / ".claude" / ".claude.json"
    config.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(config.read_text()) if config.exists() else {}
    projects = {
        **known.get("projects", {}),
        folder: {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True},
    }
    config.write_text(json.dumps({**known, "hasCompletedOnboarding": True, "theme": "dark", "projects": projects}))


def test_a_prompt_a_tool_with_permission_and_exit(stack: Stack) -> None:
    folder = stack.folder("interactive")
    trusted_home(stack, str(folder))
    before = stack.status()["requests"]
    with Terminal(stack.argv("claude"), stack.env, folder) as terminal:
        terminal.wait_for("? for shortcuts")
        terminal.type('@rehearse tool Bash {"command": "touch made-by-claude"}')
        terminal.press_until("\r", "Do you want to proceed?")
        terminal.press_until("\r", "no model is behind this answer")
        terminal.type("/exit")
        terminal.press_until("\r", "Resume this session with")
        assert terminal.wait_exit() == 0
    assert (folder / "made-by-claude").exists()
    after = stack.status()["requests"]
    assert after["errors"] == before["errors"]
    assert after["total"] - before["total"] == 2, "two turns: no title request, no classifier"
