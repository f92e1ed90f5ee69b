"""The examples of the README, run as they stand."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.support.claude import Run, run
from tests.support.stack import Stack
from tests.support.system import program

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


def example(language: str, containing: str) -> str:
    """The block of code that contains a text."""
    (found,) = [code for code in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if containing in code]
    return str(found)


@pytest.fixture
def clone(stack: Stack, tmp_path: Path) -> Path:
    """A folder with this environment as its `.venv`, which is how the README calls the programs."""
    (tmp_path / ".venv").symlink_to(Path(sys.prefix))
    return tmp_path


def bash(stack: Stack, clone: Path, script: str) -> Run:
    return run(["bash", "-euc", script], stack.env, clone).expect()


def test_curl(stack: Stack, clone: Path) -> None:
    program("curl", "apt-get install curl")
    message = bash(stack, clone, example("sh", "curl -s")).json
    assert 'You wrote: "hello"' in message["content"][0]["text"]


def test_python(stack: Stack, clone: Path) -> None:
    (clone / "example.py").write_text(example("python", "import anthropic"))
    script = 'eval "$(.venv/bin/llmhost env)"\n.venv/bin/python example.py'
    assert 'You wrote: "hello"' in bash(stack, clone, script).stdout


def test_rehearsal(stack: Stack, clone: Path) -> None:
    assert bash(stack, clone, example("sh", "@rehearse tool")).stdout.strip() == "that was the date"


def test_json_of_every_question(stack: Stack) -> None:
    for command in ("status", "doctor", "logs", "env", "config show", "config path", "cache stats"):
        envelope = json.loads(stack.llmhost("--json", *command.split()).expect().stdout)
        assert (envelope["schema"], envelope["command"], envelope["ok"]) == ("llmhost/1", command, True)
