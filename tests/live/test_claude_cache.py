"""The exact cache under the real client."""

from __future__ import annotations

import json
from pathlib import Path

from tests.live.conftest import StackFactory
from tests.support.redis_server import RedisServer
from tests.support.stack import Stack


def exact(stack: Stack) -> dict[str, int]:
    return dict(stack.status()["cache"]["exact"])


def pid_of(redis: RedisServer) -> int:
    answer = redis.ask("INFO", "server")
    assert isinstance(answer, dict)
    return int(answer["process_id"])


def test_the_same_question_twice_is_answered_from_the_cache(new_stack: StackFactory) -> None:
    stack = new_stack()
    stack.up()
    folder = stack.folder("same")
    prompt = "what do you think of this folder?\n@rehearse words 40; pace 5"
    first = stack.claude("-p", prompt, cwd=folder).expect()
    assert exact(stack)["hits"] == 0
    second = stack.claude("-p", prompt, cwd=folder).expect()
    assert second.stdout == first.stdout
    assert exact(stack)["hits"] == 1
    assert stack.status()["cache"]["saved_tokens"] > 0

    other = stack.claude("-p", prompt, cwd=stack.folder("other")).expect()
    assert exact(stack)["hits"] == 1, "another folder is another question"
    assert other.stdout == first.stdout


def test_a_whole_session_with_tools_is_replayed(new_stack: StackFactory) -> None:
    stack = new_stack()
    stack.up()
    folder = stack.folder("session")
    prompt = '@rehearse say looking; tool Bash {"command": "echo same"}\n@rehearse say done'
    runs = [stack.stream(prompt, "--allowedTools", "Bash", cwd=folder) for _ in range(2)]
    assert [run.result["result"] for run in runs] == ["done", "done"]
    assert exact(stack)["hits"] == 2, "both turns of the second run: ids differ from run to run, the key does not"
    assert runs[0].tool_uses[0]["id"] != runs[1].tool_uses[0]["id"]


def test_clearing_the_cache_makes_it_ask_again(new_stack: StackFactory) -> None:
    stack = new_stack()
    stack.up()
    for _ in range(2):
        stack.claude("-p", "hello").expect()
    stack.json("cache", "clear", "--yes")
    stack.claude("-p", "hello").expect()
    assert exact(stack)["hits"] == 1


def test_redis_dies_mid_run_and_only_status_notices(new_stack: StackFactory, redis: RedisServer) -> None:
    stack = new_stack(REDIS_URL=redis.url)
    stack.up()
    folder = stack.folder("redis")
    assert stack.status()["cache"]["store"] == "redis"
    first = stack.claude("-p", "hello", cwd=folder).expect()
    assert stack.claude("-p", "hello", cwd=folder).expect().stdout == first.stdout
    assert exact(stack)["hits"] == 1

    kill_redis = f"kill -9 {pid_of(redis)} && echo killed"
    prompt = f"@rehearse tool Bash {json.dumps({'command': kill_redis})}\n@rehearse say still here"
    run = stack.stream(prompt, "--allowedTools", "Bash", cwd=folder)
    assert run.result["result"] == "still here"
    assert stack.claude("-p", "hello", cwd=folder).expect().stdout == first.stdout
    status = stack.status()
    assert status["cache"]["state"] == "degraded"
    assert status["requests"]["errors"] == 0


def test_answers_survive_a_restart_in_redis(new_stack: StackFactory, redis: RedisServer) -> None:
    stack = new_stack(REDIS_URL=redis.url)
    stack.up()
    folder: Path = stack.folder("restart")
    first = stack.claude("-p", "hello", cwd=folder).expect()
    stack.down()
    stack.up()
    assert stack.claude("-p", "hello", cwd=folder).expect().stdout == first.stdout
    assert exact(stack)["hits"] == 1
