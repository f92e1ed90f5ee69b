"""The `anthropic` Python package, with its own strict checks of every answer, as a second real client of the gateway."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import anthropic
import httpx2
import pytest

from tests.live.conftest import StackFactory
from tests.support.images import png
from tests.support.stack import Stack

WEATHER = {
    "name": "weather",
    "description": "The weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[anthropic.Anthropic]:
    with connect(stack) as client:
        yield client


def connect(stack: Stack, **options: object) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=stack.url, auth_token=stack.token, _strict_response_validation=True, **options)


def ask(text: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": text}]


def test_a_message(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model="claude-sonnet-5", max_tokens=100, messages=ask("@rehearse say good day"))
    assert [block.text for block in message.content] == ["good day"]
    assert (message.model, message.stop_reason) == ("claude-sonnet-5", "end_turn")
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens > 0
    assert message._request_id.startswith("req_")


def test_a_stream_is_the_same_message_in_pieces(client: anthropic.Anthropic) -> None:
    question = ask("@rehearse think first; say one two three")
    thinking = {"type": "enabled", "budget_tokens": 1024}
    with client.messages.stream(model="rehearsal", max_tokens=2000, messages=question, thinking=thinking) as stream:
        pieces = list(stream.text_stream)
        streamed = stream.get_final_message()
    assert "".join(pieces) == "one two three"
    assert len(pieces) > 1
    whole = client.messages.create(model="rehearsal", max_tokens=2000, messages=question, thinking=thinking)
    assert [block.type for block in streamed.content] == ["thinking", "text"] == [block.type for block in whole.content]
    assert streamed.content[1].text == whole.content[1].text
    assert streamed.usage.output_tokens == whole.usage.output_tokens


def test_a_tool_and_its_result(client: anthropic.Anthropic) -> None:
    question = ask(
        '@rehearse tool weather {"city": "Zürich", "days": 2}; tool weather {"city": "Oslo"}\n@rehearse say bring an umbrella'
    )
    with client.messages.stream(model="rehearsal", max_tokens=500, messages=question, tools=[WEATHER]) as stream:
        called = stream.get_final_message()
    assert called.stop_reason == "tool_use"
    assert [block.input for block in called.content] == [{"city": "Zürich", "days": 2}, {"city": "Oslo"}]
    results = [{"type": "tool_result", "tool_use_id": block.id, "content": "rain"} for block in called.content]
    turns = [*question, {"role": "assistant", "content": called.content}, {"role": "user", "content": results}]
    answer = client.messages.create(model="rehearsal", max_tokens=500, messages=turns, tools=[WEATHER])
    assert answer.content[0].text == "bring an umbrella"


def test_forced_and_forbidden_tools(client: anthropic.Anthropic) -> None:
    common = {"model": "rehearsal", "max_tokens": 500, "tools": [WEATHER]}
    forced = client.messages.create(**common, messages=ask("hi"), tool_choice={"type": "tool", "name": "weather"})
    assert forced.content[0].name == "weather"
    forbidden = client.messages.create(
        **common, messages=ask("@rehearse tool weather {}"), tool_choice={"type": "none"}
    )
    assert {block.type for block in forbidden.content} == {"text"}


def test_an_image_a_stop_sequence_and_a_limit(client: anthropic.Anthropic) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(png()).decode()}
    content = [{"type": "image", "source": source}, {"type": "text", "text": "what is it?"}]
    seen = client.messages.create(model="rehearsal", max_tokens=500, messages=[{"role": "user", "content": content}])
    assert "Images with the last message: 1." in seen.content[0].text
    stopped = client.messages.create(
        model="rehearsal", max_tokens=50, messages=ask("@rehearse say a b STOP c"), stop_sequences=["STOP"]
    )
    assert (stopped.stop_reason, stopped.stop_sequence, stopped.content[0].text) == ("stop_sequence", "STOP", "a b ")
    limited = client.messages.create(model="rehearsal", max_tokens=3, messages=ask("@rehearse words 10"))
    assert (limited.stop_reason, limited.usage.output_tokens) == ("max_tokens", 3)


def test_counting_tokens_agrees_with_the_bill(client: anthropic.Anthropic) -> None:
    question = ask("how many tokens is this?")
    counted = client.messages.count_tokens(model="rehearsal", messages=question, tools=[WEATHER])
    usage = client.messages.create(model="rehearsal", max_tokens=50, messages=question, tools=[WEATHER]).usage
    assert counted.input_tokens == usage.input_tokens + usage.cache_read_input_tokens


def test_models(client: anthropic.Anthropic) -> None:
    listed = list(client.models.list())
    assert [model.id for model in listed] == ["rehearsal", "anthropic/rehearsal"], (
        "the second passes the filter of Claude Code's picker"
    )
    assert {model.max_input_tokens for model in listed} == {65_536}
    assert client.models.retrieve("rehearsal") == listed[0]
    with pytest.raises(anthropic.NotFoundError, match="nope"):
        client.models.retrieve("nope")


def test_errors_have_their_own_classes(stack: Stack) -> None:
    with connect(stack, max_retries=0) as client:
        statuses = {
            400: anthropic.BadRequestError,
            401: anthropic.AuthenticationError,
            403: anthropic.PermissionDeniedError,
            404: anthropic.NotFoundError,
            429: anthropic.RateLimitError,
            500: anthropic.InternalServerError,
            529: anthropic.InternalServerError,
        }
        for status, kind in statuses.items():
            with pytest.raises(kind) as caught:
                client.messages.create(model="rehearsal", max_tokens=50, messages=ask(f"@rehearse fail {status}"))
            assert caught.value.status_code == status
            assert caught.value.request_id.startswith("req_")
        with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
            client.messages.create(model="rehearsal", max_tokens=50, messages=ask("@rehearse overflow"))
        with pytest.raises(anthropic.NotFoundError, match="llmhost"):
            client.messages.create(model="gpt-9", max_tokens=50, messages=ask("hi"))
    stranger = anthropic.Anthropic(base_url=stack.url, auth_token="llmh_wrong", max_retries=5)
    with stranger, pytest.raises(anthropic.AuthenticationError):
        stranger.messages.create(model="rehearsal", max_tokens=50, messages=ask("hi"))


def test_a_truncated_stream_is_never_taken_for_a_whole_one(stack: Stack) -> None:
    """This SDK takes a clean end in the middle for success, so the gateway breaks the connection."""
    with connect(stack, max_retries=0) as client:
        question = ask("@rehearse pace 100; words 50; cut 15")
        stream_of = client.messages.stream(model="rehearsal", max_tokens=500, messages=question)
        with pytest.raises(httpx2.RemoteProtocolError), stream_of as stream:
            stream.get_final_message()


def test_the_cache_says_so_and_can_be_refused(new_stack: StackFactory) -> None:
    stack = new_stack()
    stack.up()
    with connect(stack) as client:

        def outcome(**headers: str) -> str:
            raw = client.messages.with_raw_response.create(
                model="rehearsal", max_tokens=50, messages=ask("same"), extra_headers=headers
            )
            return raw.headers["x-llmhost-cache"]

        assert [outcome(), outcome()] == ["miss", "exact"]
        assert outcome(**{"cache-control": "no-cache"}) in ("miss", "bypass")
        assert outcome(**{"cache-control": "no-store"}) == "bypass"
