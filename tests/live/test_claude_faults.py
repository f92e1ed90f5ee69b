"""What goes wrong behind the gateway while the real client is working."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time

import pytest

from tests.live.conftest import StackFactory
from tests.support.stack import Stack
from tests.support.system import processes_touching, wait_until

QUICK = {"LLMHOST_PROXY_FIRST_BYTE_S": "0.5", "LLMHOST_PROXY_PING_S": "0.3"}


def servers(stack: Stack) -> list[int]:
    """Pids of the gateway and the node proxy."""
    return [pid for pid, command in processes_touching(stack.root).items() if "llmhost.proxy" in command]


def test_a_refusal_is_retried_as_often_as_asked_and_then_shown(stack: Stack) -> None:
    before = stack.status()["requests"]["errors"]
    run = stack.claude("-p", "@rehearse fail 529", CLAUDE_CODE_MAX_RETRIES="1").expect(1)
    assert "529" in run.stdout
    assert stack.status()["requests"]["errors"] == before + 2


def test_a_wrong_request_is_shown_with_its_reason(stack: Stack) -> None:
    run = stack.claude("-p", "@rehearse sing a song").expect(1)
    assert "'sing' is none of" in run.stdout


def test_a_long_silence_is_bridged_by_pings(new_stack: StackFactory) -> None:
    stack = new_stack(**QUICK)
    stack.up()
    run = stack.claude("-p", "@rehearse stall 4; say finally", CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS="2000").expect()
    assert run.stdout.strip() == "finally"
    assert stack.status()["requests"]["total"] == 2, "the proof of `up` and this one: nothing was asked again"


def test_a_stream_cut_after_a_whole_block_is_resumed(stack: Stack) -> None:
    run = stack.stream("@rehearse think a short plan; say one two three four five; cut 5")
    assert run.result["is_error"] is False
    assert run.result["num_turns"] == 2, "the client asked for the rest"


def test_a_stream_that_is_always_cut_ends_as_an_error(stack: Stack) -> None:
    run = stack.claude("-p", "@rehearse words 50; cut 10", CLAUDE_CODE_MAX_RETRIES="1", timeout_s=60)
    assert run.exit_code == 1


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_gateway_and_node_die_in_the_middle_of_a_session(new_stack: StackFactory, signal_number: int) -> None:
    stack = new_stack()
    stack.up()
    pids = servers(stack)
    assert len(pids) == 2
    command = f"kill -{int(signal_number)} {' '.join(map(str, pids))} && echo gone"
    prompt = f"@rehearse tool Bash {json.dumps({'command': command})}\n@rehearse say still here"
    run = stack.stream(prompt, "--allowedTools", "Bash")
    assert run.result["result"] == "still here"
    wait_until(lambda: not set(servers(stack)) & set(pids), "the end of the old servers, which may drain for a while")
    wait_until(lambda: stack.status()["gateway"]["state"] == "up", "the new gateway")


def test_a_killed_supervisor_is_noticed_and_replaced(new_stack: StackFactory) -> None:
    stack = new_stack()
    stack.up()
    for pid in processes_touching(stack.root):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not processes_touching(stack.root), "the end of all processes")
    status = stack.status()
    assert status["gateway"]["state"] in ("down", "failed")
    assert status["advice"], "says what happened and what to do"
    assert stack.claude("-p", "@rehearse say back again").expect().stdout.strip() == "back again"
    stack.down()
    assert stack.leftovers() == {"processes": {}, "sockets": [], "locks": []}


def test_ctrl_c_ends_claude_and_the_generation_behind_it(stack: Stack) -> None:
    argv = stack.argv("claude", "-p", "@rehearse words 100000; pace 100")
    process = subprocess.Popen(
        argv,
        env=stack.env,
        cwd=stack.work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        wait_until(lambda: stack.status()["requests"]["in_flight"] == 1, "the request")
        os.killpg(process.pid, signal.SIGINT)
        started = time.monotonic()
        process.communicate(timeout=20)
        assert time.monotonic() - started < 5
    finally:
        process.kill()
        process.communicate()
    wait_until(lambda: stack.status()["requests"]["in_flight"] == 0, "the end of the generation")
