"""What the rehearsal answers: derived from the prompt, or as directed, within what the request allows."""

from __future__ import annotations

import json

import jsonschema
import pytest

from llmhost.messages.errors import ApiError
from tests.support.rehearsal import answer, make_backend, request
from tests.support.sse import text_of, tools_of

BASH = {
    "name": "Bash",
    "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
}
READ = {
    "name": "Read",
    "input_schema": {
        "type": "object",
        "properties": {"limit": {"type": "integer", "minimum": 3}},
        "required": ["limit"],
    },
}
TITLE = {
    "type": "object",
    "properties": {"title": {"type": "string"}},
    "required": ["title"],
    "additionalProperties": False,
}


async def said(body, backend=None) -> str:
    return text_of(await answer(body, backend))


async def test_an_undirected_answer_says_that_no_model_is_behind_it_and_quotes_the_user():
    text = await said(request("please\n  fix the bug"))
    assert "no model is behind this answer" in text
    assert '"please fix the bug"' in text


async def test_equal_prompts_get_equal_answers_in_another_process_of_the_backend_too():
    assert await said(request("a")) == await said(request("a"))


async def test_different_prompts_get_different_answers():
    texts = [
        await said(request("a")),
        await said(request("b")),
        await said(request("a", system="be brief")),
        await said(request("a", tools=[BASH])),
        await said(
            {
                "messages": [
                    {"role": "user", "content": "x"},
                    {"role": "assistant", "content": "y"},
                    {"role": "user", "content": "a"},
                ]
            }
        ),
    ]
    assert len(set(texts)) == len(texts)


async def test_what_is_no_part_of_the_prompt_changes_nothing():
    block = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    billing = {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cch=0;"}
    plain = request("a", system="be brief", tools=[BASH])
    dressed = {
        "model": "claude-x",
        "stream": True,
        "metadata": {"user_id": "u"},
        "system": [billing, {"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}],
        "tools": [{**BASH, "cache_control": {"type": "ephemeral"}}, {"name": "Later", "defer_loading": True}],
        "messages": [{"content": [block], "role": "user"}],
    }
    assert await said(plain) == await said(dressed)


async def test_tool_ids_and_signatures_are_no_part_of_the_prompt():
    def body(id: str) -> dict:
        call = {"type": "tool_use", "id": id, "name": "Bash", "input": {"command": "ls"}}
        thought = {"type": "thinking", "thinking": "hm", "signature": id}
        result = {"type": "tool_result", "tool_use_id": id, "content": "README.md"}
        return {
            "messages": [
                *request()["messages"],
                {"role": "assistant", "content": [thought, call]},
                {"role": "user", "content": [result]},
            ]
        }

    first = await said(body("toolu_1"))
    assert first == await said(body("toolu_2"))
    assert 'A tool answered: "README.md"' in first


async def test_an_image_is_seen_and_does_not_fill_the_window():
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 1_000_000}}
    other = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "B" * 1_000_000}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": [image]}
    texts = [await said({"messages": [{"role": "user", "content": [part]}]}) for part in (image, other, result)]
    assert all("Images with the last message: 1" in text for text in texts)
    assert len(set(texts)) == 3


async def test_say_is_said_word_for_word():
    assert await said(request('@rehearse say "  two\\nlines; say so "')) == "  two\nlines; say so "


async def test_several_texts_are_lines_of_one_block():
    message = await answer(request('@rehearse say a ; say "" ; words 3 ; say b'))
    assert [block["text"] for block in message["content"]] == ["a\nno model is\nb"]
    assert message["stop_reason"] == "end_turn"


async def test_the_kth_line_rules_the_kth_turn():
    messages = request('go\n@rehearse tool Bash {"command": "ls"}; say one\n@rehearse say two\nthanks')["messages"]
    first = await answer({"messages": messages})
    assert (first["stop_reason"], text_of(first), tools_of(first)) == ("tool_use", "one", [("Bash", {"command": "ls"})])
    call = next(block for block in first["content"] if block["type"] == "tool_use")
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": "x"}
    reminder = {"type": "text", "text": "<system-reminder>\n@rehearse say wrong\n</system-reminder>"}
    environment = {"role": "system", "content": "@rehearse say wrong"}
    messages = [
        *messages,
        environment,
        {"role": "assistant", "content": first["content"]},
        {"role": "user", "content": [result, reminder]},
    ]
    assert await said({"messages": messages}) == "two"
    messages = [*messages, {"role": "assistant", "content": "two"}, {"role": "user", "content": [result]}]
    assert "no model is behind" in await said({"messages": messages})


async def test_a_new_user_text_starts_again():
    old = request("@rehearse say a\n@rehearse say b")["messages"]
    messages = [*old, {"role": "assistant", "content": "a"}, {"role": "user", "content": "@rehearse say c"}]
    assert await said({"messages": messages}) == "c"
    unanswered = {
        "role": "user",
        "content": [{"type": "text", "text": "@rehearse say a"}, {"type": "text", "text": "@rehearse say b"}],
    }
    assert await said({"messages": [unanswered]}) == "b"


@pytest.mark.parametrize(
    "remark", ["[Image: original 9x9, displayed at 9x9.]", "Tool loaded.", "<system-reminder>x</system-reminder> "]
)
async def test_remarks_of_the_client_are_not_the_user_speaking(remark):
    content = [{"type": "text", "text": "@rehearse say a"}, {"type": "text", "text": remark}]
    assert await said({"messages": [{"role": "user", "content": content}]}) == "a"


async def test_a_prefill_is_not_a_turn():
    messages = [*request("@rehearse say a\n@rehearse say b")["messages"], {"role": "assistant", "content": "{"}]
    assert await said({"messages": messages}) == "a"


async def test_parallel_calls_have_their_own_ids():
    message = await answer(request('@rehearse tool A {"x": 1} ; tool B ; tool A {"x": 2}', tools=[BASH]))
    assert tools_of(message) == [("A", {"x": 1}), ("B", {}), ("A", {"x": 2})]
    assert message["usage"]["output_tokens"] == 3


async def test_thinking_comes_with_a_signature_and_before_the_text():
    message = await answer(request("@rehearse think let me see"))
    assert [block["type"] for block in message["content"]] == ["thinking", "text"]
    assert message["content"][0]["thinking"] == "let me see"
    assert message["content"][0]["signature"]
    assert "no model is behind" in text_of(message)


async def test_nothing_is_thought_when_the_request_disables_it_or_nobody_asks():
    for body in (
        request("@rehearse think a; say b", thinking={"type": "disabled"}),
        request("hi", thinking={"type": "adaptive"}),
    ):
        assert [block["type"] for block in (await answer(body))["content"]] == ["text"]


async def test_stop_sequences_end_the_text_before_them():
    message = await answer(request("@rehearse say one two STOP three; say four", stop_sequences=["three", "STOP"]))
    assert (text_of(message), message["stop_reason"], message["stop_sequence"]) == ("one two ", "stop_sequence", "STOP")


async def test_stop_sequences_are_not_looked_for_in_thoughts():
    message = await answer(request("@rehearse think STOP; say fine", stop_sequences=["STOP"]))
    assert (text_of(message), message["stop_reason"]) == ("fine", "end_turn")


async def test_max_tokens_counts_words():
    message = await answer(request("@rehearse words 50", max_tokens=5))
    assert (len(text_of(message).split()), message["stop_reason"], message["usage"]["output_tokens"]) == (
        5,
        "max_tokens",
        5,
    )


async def test_a_call_that_does_not_fit_is_left_out():
    message = await answer(request('@rehearse say a b; tool Bash {"command": "c d e"}', max_tokens=3))
    assert ([block["type"] for block in message["content"]], message["stop_reason"]) == (["text"], "max_tokens")


async def test_max_tokens_zero_is_an_empty_message():
    message = await answer(request("hello", max_tokens=0))
    assert (message["content"], message["stop_reason"], message["usage"]["output_tokens"]) == ([], "max_tokens", 0)


async def test_the_window_ends_an_answer_that_fills_it():
    message = await answer(request("@rehearse words 2000"), make_backend(context=1000))
    assert message["stop_reason"] == "max_tokens"
    message = await answer(request("@rehearse words 2000", max_tokens=2000), make_backend(context=1000))
    assert message["stop_reason"] == "model_context_window_exceeded"
    assert sum(message["usage"].values()) == 1000


async def test_tool_choice_none_keeps_the_call_from_being_made():
    message = await answer(request("@rehearse tool Bash", tools=[BASH], tool_choice={"type": "none"}))
    assert tools_of(message) == []
    assert "Bash" in text_of(message)


@pytest.mark.parametrize(
    ("text", "choice", "calls"),
    [
        ("hi", {"type": "any"}, [("Bash", {"command": "rehearsal"})]),
        ("hi", {"type": "tool", "name": "Read"}, [("Read", {"limit": 3})]),
        ('@rehearse say a; tool Read {"limit": 9}', {"type": "any"}, [("Read", {"limit": 9})]),
        ('@rehearse tool Bash; tool Read {"limit": 9}', {"type": "tool", "name": "Read"}, [("Read", {"limit": 9})]),
        ("@rehearse tool A; tool B", {"type": "auto", "disable_parallel_tool_use": True}, [("A", {})]),
        ("hi", {"type": "auto"}, []),
    ],
)
async def test_a_forced_tool_is_called(text, choice, calls):
    message = await answer(
        request(text, tools=[{"name": "Later", "defer_loading": True}, BASH, READ], tool_choice=choice)
    )
    assert tools_of(message) == calls
    if choice["type"] != "auto":
        assert (text_of(message), message["stop_reason"]) == ("", "tool_use")


async def test_a_schema_is_met():
    body = request("hi", output_config={"effort": "high", "format": {"type": "json_schema", "schema": TITLE}})
    jsonschema.validate(json.loads(await said(body)), TITLE)


async def test_an_impossible_schema_is_a_bad_request():
    body = request("hi", output_config={"format": {"type": "json_schema", "schema": {"$ref": "#/nowhere"}}})
    with pytest.raises(ApiError, match="not there") as caught:
        await answer(body)
    assert caught.value.status == 400


async def test_a_line_that_cannot_be_followed_is_a_bad_request_at_the_first_turn():
    with pytest.raises(ApiError, match="@rehearse dance: 'dance' is none of") as caught:
        await answer(request("@rehearse say a\n@rehearse dance"))
    assert (caught.value.status, caught.value.should_retry) == (400, False)


async def test_a_request_for_a_summary_gets_one_that_lets_the_rehearsal_go_on():
    asked = "Respond with TEXT ONLY: an <analysis> block followed by a <summary> block."
    messages = [
        *request("@rehearse tool Bash\n@rehearse say second\n@rehearse say third")["messages"],
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}]},
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}, {"type": "text", "text": asked}],
        },
    ]
    text = await said({"messages": messages})
    assert text.startswith("<summary>\n")
    continued = f"This session is being continued from a previous conversation that ran out of context.\n{text}\nResume directly"
    assert await said(request(continued)) == "second"
    turned = [
        *request(continued)["messages"],
        {"role": "assistant", "content": "second"},
        {"role": "user", "content": []},
    ]
    assert await said({"messages": turned}) == "third"


def test_the_model_is_known_at_once_and_says_what_it_is():
    backend = make_backend(context=9000, model="qwen3-coder:30b")
    model = backend.model()
    assert (model.id, model.context, model.max_output, model.digest) == ("qwen3-coder:30b", 9000, 4500, "rehearsal-1")
    assert (make_backend().model().id, make_backend().model().context) == ("rehearsal", 65536)
    assert (backend.health().state, backend.kind, backend.translates) == ("ok", "rehearsal", True)
    assert "no model" in backend.health().detail
