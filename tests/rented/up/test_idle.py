"""The idle time of a fleet: nobody who works is cut off, whoever answers him, and a fleet that nobody uses is ended."""

from __future__ import annotations

import time

from tests.support.system import wait_until

IDLE_S = 8


def test_a_session_of_cached_answers_keeps_its_machines_and_an_unused_fleet_is_ended(sandboxed, new_stack):
    """Of two machines one is asked once and the other never; both have a guard of their own that ends an idle one."""
    stack = new_stack(sandboxed)
    stack.up_vast("--count", "2", "--idle", f"{IDLE_S}s")
    body = {"max_tokens": 2000, "temperature": 0, "messages": [{"role": "user", "content": "the same again"}]}
    seen = []
    with stack.client() as client:
        end = time.monotonic() + 1.7 * IDLE_S
        while time.monotonic() < end:
            answer = client.post("/v1/messages", json=body)
            seen.append(answer.headers.get("x-llmhost-cache"))
            time.sleep(0.5)
    assert seen[-1] == "exact", seen
    assert len(stack.billing()) == 2
    assert [node["state"] for node in stack.status()["fleet"]["nodes"]] == ["ready", "ready"]
    wait_until(lambda: not stack.billing(), f"the idle fleet to be ended\n{stack.logs()}", 40)


def test_a_lease_that_is_extended_while_its_fleet_is_drained_goes_on(sandboxed, new_stack):
    stack = new_stack(sandboxed, LLMHOST_NODE_DRAIN_S="60")
    stack.up_vast("--lease", "1h")
    told = "@rehearse pace 300; words 300"
    body = {"max_tokens": 2000, "stream": True, "messages": [{"role": "user", "content": told}]}
    with stack.client() as client, client.stream("POST", "/v1/messages", json=body) as answer:
        lines = answer.iter_lines()  # kept, because letting go of it would hang up
        next(lines)
        stack.json("extend", "1s")
        wait_until(lambda: stack.status()["fleet"]["nodes"][0]["state"] == "draining", stack.logs(), 20)
        assert [one["moved"] for one in stack.json("extend", "1h")["nodes"]] == [True]
    # whoever was answered is gone, so nothing is under way any more
    wait_until(lambda: stack.status()["fleet"]["nodes"][0]["state"] == "ready", "it to serve again", 30)
    assert len(stack.billing()) == 1
    with stack.client() as client:
        assert (
            client.post(
                "/v1/messages", json={"max_tokens": 9, "messages": [{"role": "user", "content": "go on"}]}
            ).status_code
            == 200
        )
