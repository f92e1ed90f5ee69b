"""Reading (never writing) the user's own Claude Code settings, to know what they would change."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmhost.claude.environment import KEY_HELPER

_MANAGED = {
    "linux": Path("/etc/claude-code/managed-settings.json"),
    "darwin": Path("/Library/Application Support/ClaudeCode/managed-settings.json"),
}


def settings_files(environ: Mapping[str, str], cwd: Path) -> tuple[Path, ...]:
    """The settings files of the user, the project and the project's local ones, weakest first, whether they exist or not."""
    config = environ.get("CLAUDE_CONFIG_DIR")
    folder = Path(config) if config else Path(environ.get("HOME") or Path.home()) / ".claude"
    return (folder / "settings.json", cwd / ".claude" / "settings.json", cwd / ".claude" / "settings.local.json")


def managed_file() -> Path | None:
    """The settings of the machine's administrator, which nothing overrides; None on systems without one."""
    return _MANAGED.get(sys.platform)


def read_document(text: str) -> dict[str, Any] | None:
    """A settings document, or None when it is none: then it is for Claude Code to complain."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def read_file(path: Path) -> dict[str, Any] | None:
    """The document in a file, or None when there is none to be read."""
    try:
        return read_document(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def variables(document: Mapping[str, Any]) -> dict[str, str]:
    """What a document puts into the environment, and its key helper under that name."""
    env = document.get("env")
    found = {str(name): str(value) for name, value in env.items()} if isinstance(env, dict) else {}
    helper = document.get(KEY_HELPER)
    return {**found, KEY_HELPER: helper} if isinstance(helper, str) and helper else found
