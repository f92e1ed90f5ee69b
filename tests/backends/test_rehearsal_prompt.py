"""Tokens, the window, and the bookkeeping of prefixes."""

from __future__ import annotations

import pytest

from llmhost.backends.rehearsal.prompt import MARKS_KEPT, PrefixMemory, Prompt
from llmhost.messages.errors import ApiError
from tests.support.rehearsal import answer, make_backend, request

LONG = "x" * 4000


async def test_the_count_is_what_usage_says():
    backend = make_backend()
    body = request(LONG, system="s" * 400, tools=[{"name": "Bash", "description": "d" * 400}])
    tokens, exact = await backend.count_tokens(body)
    usage = (await answer(body, backend))["usage"]
    assert exact
    assert 1200 <= tokens < 1300
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"] == tokens
    assert backend.estimate(body) == tokens


async def test_a_prompt_that_leaves_no_room_is_refused_with_the_window_really_loaded():
    with pytest.raises(ApiError) as caught:
        await answer(request(LONG), make_backend(context=1200))
    assert (caught.value.status, caught.value.message) == (400, "prompt is too long: 1201 tokens > 1200 maximum")
    await answer(request(LONG), make_backend(context=1300))


async def test_the_next_turn_reuses_the_prompt_before_it():
    backend = make_backend()
    first = request(LONG, system=LONG)
    await answer(first, backend)
    second = {
        **first,
        "messages": [*first["messages"], {"role": "assistant", "content": "ok"}, {"role": "user", "content": "more"}],
    }
    usage = (await answer(second, backend))["usage"]
    assert usage["cache_read_input_tokens"] == backend.estimate(first)
    assert usage["input_tokens"] < 20
    assert backend.reuse.reused_tokens == usage["cache_read_input_tokens"]
    assert backend.reuse.prompt_tokens == backend.estimate(first) + backend.estimate(second)


async def test_a_change_at_the_front_reuses_nothing():
    backend = make_backend()
    await answer(request(LONG, system="a"), backend)
    assert (await answer(request(LONG, system="b"), backend))["usage"]["cache_read_input_tokens"] == 0


async def test_the_same_prompt_again_still_evaluates_something_and_answers_the_same():
    backend = make_backend()
    first, second = await answer(request(LONG), backend), await answer(request(LONG), backend)
    assert first["content"] == second["content"]
    assert second["usage"]["input_tokens"] == 1
    assert sum(first["usage"].values()) == sum(second["usage"].values())


async def test_a_tool_that_arrives_later_keeps_the_prefix():
    backend = make_backend()
    deferred = {"name": "WebFetch", "description": "fetches", "defer_loading": True}
    await answer(request(LONG, tools=[{"name": "Bash"}]), backend)
    usage = (await answer(request(LONG, tools=[{"name": "Bash"}, deferred]), backend))["usage"]
    assert usage["input_tokens"] == 1


def test_what_is_remembered_of_prompts_is_bounded():
    memory = PrefixMemory()
    old = Prompt(((b"old", 10),))
    memory.reuse(old)
    assert memory.reuse(old) == 9
    memory.reuse(Prompt(tuple((number.to_bytes(4, "big"), number + 1) for number in range(MARKS_KEPT))))
    assert memory.reuse(old) == 0
