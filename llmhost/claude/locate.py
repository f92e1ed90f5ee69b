"""Finding the `claude` program."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from llmhost.core.errors import LlmhostError

INSTALL_HINT = "Install it with: pip install 'llmhost[claude]'   (or: npm install -g @anthropic-ai/claude-code)"
VERSION_TIMEOUT_S = 20.0


def find_claude(configured: str | None, search_path: str | None = None) -> Path:
    """The program: the configured one, else the first on PATH, else the one inside the Python package `claude-agent-sdk`.

    `configured` is a path or a name on PATH; `search_path` None means the process's PATH. Raises LlmhostError (`claude_missing`), also when
    the configured one is not there: then no other is taken silently.
    """
    if configured:
        found = shutil.which(os.path.expanduser(configured), path=search_path)
        if found:
            return Path(found)
        raise LlmhostError(
            f"{configured} (setting claude.bin, LLMHOST_CLAUDE_BIN) is not a program that can be run.",
            hint="Correct the setting, or take it out to search PATH.",
            code="claude_missing",
        )
    found = shutil.which("claude", path=search_path)
    binary = Path(found) if found else _bundled()
    if binary is None:
        raise LlmhostError("Claude Code is not installed.", hint=INSTALL_HINT, code="claude_missing")
    return binary


def _bundled() -> Path | None:
    spec = find_spec("claude_agent_sdk")  # finds the package without importing it
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "_bundled" / "claude"
        if os.access(binary, os.X_OK):
            return binary
    return None


def claude_version(binary: Path) -> str | None:
    """What it says of its version, e.g. `2.1.330`; None when it cannot be run."""
    environment = {
        name: os.environ[name] for name in ("PATH", "HOME", "CLAUDE_CONFIG_DIR", "TMPDIR") if name in os.environ
    }
    try:
        done = subprocess.run(
            [binary, "--version"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=VERSION_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split()[0] if done.stdout.split() else None
