"""The README's first command, word for word, in a fresh copy of the project."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.live.conftest import StackFactory
from tests.support.claude import run

ROOT = Path(__file__).parent.parent.parent
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "*.egg-info", "dist")


def quick_start() -> str:
    """The first shell block of the README."""
    block = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block
    return block.group(1)


@pytest.mark.timeout(400)  # it installs the packages
def test_one_command_from_a_fresh_clone_to_an_answer(new_stack: StackFactory) -> None:
    stack = new_stack()  # nothing of it is used but its folders, so that it is cleaned up like the others
    clone = stack.root / "clone"
    shutil.copytree(ROOT, clone, ignore=NOT_COPIED)
    base = Path(sys.executable).resolve().parent
    env = {**stack.env, "PATH": f"{base}:/usr/local/bin:/usr/bin:/bin", **pip_settings()}
    command = quick_start()
    assert command.count("\n") == 1, "one command"
    done = run(["bash", "-c", command], env, clone, timeout_s=300).expect()
    assert "no model is behind this answer" in done.stdout
    assert 'You wrote: "hello"' in done.stdout
    down = run([str(clone / ".venv/bin/llmhost"), "down", "--yes"], env, clone).expect()
    assert down.stdout or down.stderr
    assert stack.leftovers() == {"processes": {}, "sockets": [], "locks": []}


def pip_settings() -> dict[str, str]:
    """How this machine reaches its package registry: pip's and TLS's own variables, and the shared download cache."""
    return {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "XDG_CACHE"))}
