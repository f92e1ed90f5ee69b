"""What the operator's side makes of an agent's words."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from llmhost.bootstrap.agent import Agent
from llmhost.core.errors import LlmhostError
from llmhost.node.__main__ import main


def test_an_agent_of_an_older_release_that_does_not_know_the_command(capsys):
    """As it was before `rm`; the words are those of the agent's own parser."""
    with pytest.raises(SystemExit) as ended:
        main(["rm-of-a-later-release", "--folder", "n"])
    session = SimpleNamespace(
        run=lambda *_args, **_more: SimpleNamespace(out="", err=capsys.readouterr().err, code=ended.value.code)
    )
    with pytest.raises(LlmhostError) as failed:
        Agent(session, "python3", "n").remove_model("a:1b")
    assert (failed.value.code, failed.value.hint) == ("node_outdated", "Bring it up to date: llmhost up")
    assert "older llmhost" in failed.value.message
