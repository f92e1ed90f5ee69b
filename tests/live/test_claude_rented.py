"""The real Claude Code on a machine that was rented for it, and nothing that bills when it is over."""

from __future__ import annotations

from pathlib import Path

from tests.support.claude import claude_binary
from tests.support.rented_stack import RentedStack, quick_market


def test_claude_is_answered_by_a_rented_machine(short_tmp: Path):
    claude_binary()
    with quick_market(short_tmp) as server:
        stack = RentedStack(server)
        try:
            (node,) = stack.up_vast()["nodes"]
            said = stack.claude("-p", "@rehearse say from a rented machine").expect()
            assert "from a rented machine" in said.stdout
            seen = stack.status()
            assert seen["requests"]["errors"] == 0
            assert seen["fleet"]["nodes"][0]["tunnel"]["state"] == "up"
            assert seen["fleet"]["price_usd_per_hour"] == node["price_usd_per_hour"] > 0
            (row,) = stack.down()["destroyed"]
            assert row["verified"]
            assert stack.billing() == []
        finally:
            stack.remove()
