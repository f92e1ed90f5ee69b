"""Finding `claude`."""

from __future__ import annotations

import pytest

from llmhost.claude.locate import claude_version, find_claude
from llmhost.core.errors import LlmhostError
from tests.support.claude import claude_binary


@pytest.fixture
def fake(tmp_path):
    """A folder for PATH with a program `claude` in it."""
    program = tmp_path / "bin" / "claude"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho '9.8.7 (Claude Code)'\n")
    program.chmod(0o755)
    return program


def test_the_configured_one_comes_first_then_path_then_the_package(fake, tmp_path):
    path = str(fake.parent)
    other = tmp_path / "mine"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    assert find_claude(str(other), path) == other
    assert find_claude("claude", path) == fake
    assert find_claude(None, path) == fake
    assert find_claude(None, str(tmp_path)) == claude_binary()


def test_a_configured_one_that_is_not_there_is_never_replaced_silently(fake):
    with pytest.raises(LlmhostError) as caught:
        find_claude("/no/such/claude", str(fake.parent))
    assert caught.value.code == "claude_missing"
    assert "LLMHOST_CLAUDE_BIN" in caught.value.message


def test_the_version_is_what_the_program_says(fake, tmp_path):
    assert claude_version(fake) == "9.8.7"
    assert claude_version(tmp_path / "nothing") is None
