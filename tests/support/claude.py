"""The real Claude Code, run in a home of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.system import missing

HOW = "run tests/run, or pip install claude-agent-sdk"
TIMEOUT_S = 60.0


@cache
def claude_binary() -> Path:
    """The binary inside the Python package that carries it."""
    spec = importlib.util.find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        missing("Claude Code", HOW)
    binary = Path(spec.origin).parent / "_bundled" / "claude"
    return binary if binary.is_file() else missing("Claude Code", HOW)


def home_environment(home: Path) -> dict[str, str]:
    """The whole environment of a run: nothing of the developer's own settings, credentials or sessions."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / ".claude"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_DATA_HOME": str(home / ".local" / "share"),
        "TMPDIR": str(home),
        "CLAUDE_CODE_TMPDIR": str(home),
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "IS_SANDBOX": "1",
    }


class TookTooLong(AssertionError):
    """A program that had to be killed; the text holds what it wrote until then."""


@dataclass(frozen=True)
class Run:
    """One finished program."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.stdout)

    @property
    def events(self) -> list[dict[str, Any]]:
        """Standard output of `--output-format stream-json --verbose`."""
        return [json.loads(line) for line in self.stdout.splitlines() if line.startswith("{")]

    @property
    def result(self) -> dict[str, Any]:
        """The event that ends a stream-json run."""
        (event,) = [event for event in self.events if event["type"] == "result"]
        return event

    @property
    def tool_uses(self) -> list[dict[str, Any]]:
        """What the model called, in order, subagents' calls included."""
        return [
            block
            for event in self.events
            if event["type"] == "assistant"
            for block in _blocks(event)
            if block["type"] == "tool_use"
        ]

    @property
    def tool_results(self) -> list[dict[str, Any]]:
        """What the tools gave back, in order."""
        return [
            block
            for event in self.events
            if event["type"] == "user"
            for block in _blocks(event)
            if block["type"] == "tool_result"
        ]

    def expect(self, exit_code: int = 0) -> Run:
        """Itself, when it ended as expected; else an assertion that shows what it printed."""
        assert self.exit_code == exit_code, (
            f"exit {self.exit_code}\nstdout: {self.stdout[-3000:]}\nstderr: {self.stderr[-3000:]}"
        )
        return self


def _blocks(event: dict[str, Any]) -> list[dict[str, Any]]:
    content = event["message"]["content"]
    return content if isinstance(content, list) else []


def result_text(block: dict[str, Any]) -> str:
    """The text of a tool result, however it is spelled."""
    content = block.get("content") or ""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content if part["type"] == "text")


def run(argv: list[str], env: dict[str, str], cwd: Path, stdin: str = "", timeout_s: float = TIMEOUT_S) -> Run:
    """Run a program to its end with exactly this environment. Raises TookTooLong."""
    cwd.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(argv, env=env, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        said = [(part or b"").decode(errors="replace")[-3000:] for part in (error.stdout, error.stderr)]
        raise TookTooLong(
            f"{argv} did not end within {timeout_s:.0f} s\nstdout: {said[0]}\nstderr: {said[1]}"
        ) from None
    return Run(done.returncode, done.stdout, done.stderr)
