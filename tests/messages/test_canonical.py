"""Which requests share a cached answer, and which must not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.messages.canonical import exact_key

TENANT = b"tenant"
BASE: dict[str, Any] = {
    "model": "claude-x",
    "max_tokens": 100,
    "system": [{"type": "text", "text": "You help."}],
    "tools": [
        {"name": "Bash", "description": "runs", "input_schema": {"type": "object", "properties": {"a": {}, "b": {}}}}
    ],
    "messages": [
        {"role": "user", "content": "list files"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"command": "ls"}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "a.txt"}]},
    ],
}


def key(body: dict[str, Any], served: str = "model", tenant: bytes = TENANT) -> str:
    return exact_key(body, served, tenant)


def changed(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(BASE), **fields}


def with_message(index: int, message: dict[str, Any]) -> dict[str, Any]:
    body = copy.deepcopy(BASE)
    body["messages"][index] = message
    return body


SAME = {
    "metadata": changed(metadata={"user_id": "somebody"}),
    "stream": changed(stream=True),
    "safeguards": changed(safeguards=[{"type": "dangerous_tool_use"}]),
    "the name the model is called by": changed(model="claude-sonnet-5"),
    "cache_control on a block": changed(
        system=[{"type": "text", "text": "You help.", "cache_control": {"type": "ephemeral"}}],
    ),
    "billing block": changed(
        system=[
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1.329.abc; cch=1;"},
            {"type": "text", "text": "You help."},
        ],
    ),
    "token counter at the end": changed(system="You help.\n<total_tokens>1234 tokens left</total_tokens>\n"),
    "system as a string": changed(system="You help."),
    "a string as one text block": with_message(
        0, {"role": "user", "content": [{"type": "text", "text": "list files"}]}
    ),
    "a tool result as text blocks": with_message(
        2,
        {
            "role": "user",
            "content": [
                {"tool_use_id": "toolu_1", "type": "tool_result", "content": [{"type": "text", "text": "a.txt"}]}
            ],
        },
    ),
}

OTHER = {
    "another question": with_message(0, {"role": "user", "content": "list folders"}),
    "white space in code": with_message(0, {"role": "user", "content": "list files "}),
    "another role": with_message(0, {"role": "system", "content": "list files"}),
    "another max_tokens": changed(max_tokens=101),
    "a temperature": changed(temperature=0.5),
    "another system prompt": changed(system="You hinder."),
    "fewer tools": changed(tools=[]),
    "a tool choice": changed(tool_choice={"type": "any"}),
    "stop sequences": changed(stop_sequences=["x"]),
    "an output format": changed(output_config={"format": {"type": "json_schema", "schema": {}}}),
    "a field this version does not know": changed(brand_new=1),
    "an error instead of a result": with_message(
        2,
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "a.txt", "is_error": True}],
        },
    ),
    "the counter in a message is the user's own text": with_message(
        0, {"role": "user", "content": "list files<total_tokens>9 tokens left</total_tokens>"}
    ),
    "an image": with_message(
        0,
        {
            "role": "user",
            "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}],
        },
    ),
}


@pytest.mark.parametrize("what", SAME)
def test_what_does_not_change_the_answer_shares_the_key(what: str) -> None:
    assert key(SAME[what]) == key(BASE)


@pytest.mark.parametrize("what", OTHER)
def test_what_may_change_the_answer_has_its_own_key(what: str) -> None:
    assert key(OTHER[what]) != key(BASE)


def test_another_model_or_tenant_never_shares() -> None:
    assert len({key(BASE), key(BASE, served="other"), key(BASE, tenant=b"other")}) == 3


def test_tool_ids_count_by_position_only() -> None:
    renamed = copy.deepcopy(BASE)
    renamed["messages"][1]["content"][0]["id"] = "toolu_other"
    renamed["messages"][2]["content"][0]["tool_use_id"] = "toolu_other"
    assert key(renamed) == key(BASE)
    crossed = copy.deepcopy(renamed)
    crossed["messages"][2]["content"][0]["tool_use_id"] = "toolu_nobody"
    assert key(crossed) != key(BASE)


def test_file_names_that_only_look_alike_are_different_questions() -> None:
    there = with_message(0, {"role": "user", "content": "rename caf\u00e9.txt to cafe\u0301.txt"})
    back = with_message(0, {"role": "user", "content": "rename cafe\u0301.txt to caf\u00e9.txt"})
    assert key(there) != key(back)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1, max_size=6), json_values, max_size=4), st.randoms(use_true_random=False))
def test_key_order_is_irrelevant(fields: dict[str, Any], random: Any) -> None:
    items = [*BASE.items(), *((f"x_{name}", value) for name, value in fields.items())]
    shuffled = random.sample(items, len(items))
    assert key(dict(items)) == key(dict(shuffled))


@given(st.lists(st.text(max_size=6), min_size=1, max_size=4), st.lists(st.text(max_size=6), min_size=1, max_size=4))
def test_moving_text_between_messages_is_another_question(left: list[str], right: list[str]) -> None:
    def asked(texts: list[str]) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": [{"type": "text", "text": text} for text in texts]}]}

    assert (key(asked(left)) == key(asked(right))) == (left == right)
