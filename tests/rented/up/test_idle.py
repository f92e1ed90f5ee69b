"""The idle time of a fleet: nobody who works is cut off, whoever answers him, and a fleet that nobody uses is ended."""

from __future__ import annotations

import time

from tests.support.system import wait_until

IDLE_S = 8


def test_a_session_of_cached_answers_keeps_its_machines_and_an_unused_fleet_is_ended(sandboxed, new_stack):
    """Of two machines one is asked once and the other never; both have a guard of their own that ends an idle one."""
    stack = new_stack(sandboxed)
    stack.up_vast("--count", "2", "--idle", f"{IDLE_S}s")
    body = {"max_tokens": 20, "temperature": 0, "messages": [{"role": "user", "content": "the same again"}]}
    seen = []
    with stack.client() as client:
        end = time.monotonic() + 3 * IDLE_S
        while time.monotonic() < end:
            answer = client.post("/v1/messages", json=body)
            seen.append(answer.headers.get("x-llmhost-cache"))
            time.sleep(0.5)
    assert seen[-1] == "exact", seen
    assert len(stack.billing()) == 2
    assert [node["state"] for node in stack.status()["fleet"]["nodes"]] == ["ready", "ready"]
    wait_until(lambda: not stack.billing(), f"the idle fleet to be ended\n{stack.logs()}", 40)
