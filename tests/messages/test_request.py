"""What is refused, with which words, and what is let through although nobody has heard of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhost.messages.canonical import exact_key
from llmhost.messages.errors import ApiError
from llmhost.messages.request import parse, session_of

HELLO = [{"role": "user", "content": "hi"}]


def refusal(body: Any) -> str:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ApiError) as caught:
        parse(raw)
    assert caught.value.status == 400
    return caught.value.message


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"{", "JSON"),
        (b"", "JSON"),
        (b'{"messages": NaN}', "JSON"),
        (b'{"messages": "\xff"}', "JSON"),
        (b"[" * 5000, "JSON"),
        ([], "object"),
        ({}, "messages"),
        ({"messages": []}, "at least one"),
        ({"messages": "hi"}, "list"),
        ({"messages": ["hi"]}, "messages.0"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "role"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "text"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": 1, "name": "x"}]}]}, "tool_use"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "tool_use_id"),
        ({"messages": HELLO, "system": 5}, "system"),
        ({"messages": HELLO, "tools": {}}, "tools"),
        ({"messages": HELLO, "tools": [{}]}, "tools.0"),
        ({"messages": HELLO, "tools": [{"name": "x", "input_schema": []}]}, "input_schema"),
        ({"messages": HELLO, "max_tokens": "100"}, "max_tokens"),
        ({"messages": HELLO, "max_tokens": True}, "max_tokens"),
        ({"messages": HELLO, "max_tokens": -1}, "max_tokens"),
        ({"messages": HELLO, "stream": "yes"}, "stream"),
        ({"messages": HELLO, "temperature": "hot"}, "temperature"),
        ({"messages": HELLO, "stop_sequences": "x"}, "stop_sequences"),
        ({"messages": HELLO, "stop_sequences": [1]}, "stop_sequences"),
        ({"messages": HELLO, "tool_choice": "auto"}, "tool_choice"),
    ],
)
def test_what_is_wrong_is_named(body: Any, names: str) -> None:
    assert names in refusal(body)


def test_unknown_things_pass() -> None:
    body = {
        "messages": [
            {"role": "system", "content": "be nice", "clear_at": "next_user_message"},
            {"role": "user", "content": [{"type": "hologram", "data": 1}, {"type": "text", "text": "x", "extra": {}}]},
        ],
        "tools": [
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
            {"type": "mcp_toolset", "mcp_server_name": "a"},
        ],
        "context_management": {"edits": []},
        "never_heard_of": [1, 2],
    }
    assert parse(json.dumps(body).encode()) == body


def test_half_an_emoji_does_not_lose_the_request() -> None:
    parsed = parse(b'{"messages": [{"role": "user", "content": "cut \\ud83d"}]}')
    assert parsed["messages"][0]["content"].startswith("cut ")
    exact_key(parsed, "m", b"t")


@pytest.mark.parametrize(
    ("user_id", "session"),
    [
        ('{"device_id": "d", "session_id": "s1"}', "s1"),
        ("user_x_account__session_0b1f2c3d-0000-4000-8000-0123456789ab", "0b1f2c3d-0000-4000-8000-0123456789ab"),
        ("user_x_account__session_y", None),
        ("{broken", None),
        ("somebody", None),
    ],
)
def test_session_is_found_in_the_metadata(user_id: str, session: str | None) -> None:
    assert session_of({"metadata": {"user_id": user_id}}, {}) == session


def test_session_header_wins() -> None:
    body = {"metadata": {"user_id": '{"session_id": "s1"}'}}
    assert session_of(body, {b"x-claude-code-session-id": b"s0"}) == "s0"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def status_of(raw: bytes) -> int:
    """200 for what is let through (and then has a key), else the status of the refusal."""
    try:
        body = parse(raw)
    except ApiError as error:
        return error.status
    exact_key(body, "m", b"t")
    return 200


@given(
    json_values
    | st.fixed_dictionaries({"messages": json_values})
    | st.fixed_dictionaries({"messages": st.just(HELLO), "tools": json_values, "system": json_values})
)
def test_any_json_is_either_a_request_or_a_400(value: Any) -> None:
    assert status_of(json.dumps(value).encode()) in (200, 400)


@given(st.binary(max_size=200))
def test_any_bytes_are_either_a_request_or_a_400(raw: bytes) -> None:
    assert status_of(raw) in (200, 400)
