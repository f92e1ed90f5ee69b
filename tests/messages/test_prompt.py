"""What the model is shown of a request."""

from __future__ import annotations

from typing import Any

import pytest

from llmhost.messages.prompt import Image, Prompt, Thinking, ToolCall, ToolResult, Turn
from llmhost.messages.prompt_build import build_prompt
from tests.support.pdf import pdf_base64

PNG = {"type": "base64", "media_type": "image/png", "data": "aGk="}


def tool(name: str, **fields: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"q": {"type": "string"}}}
    return {"name": name, "description": f"{name} does", "input_schema": schema, **fields}


def prompt_of(*messages: dict[str, Any], vision: bool = False, thinking: bool = False, **body: Any) -> Prompt:
    return build_prompt({"messages": list(messages), **body}, vision=vision, thinking=thinking)


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": list(blocks)}


def system(content: Any) -> dict[str, Any]:
    return {"role": "system", "content": content}


def use(id: str, name: str = "Bash", **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": name, "input": given}


def result(id: str, content: Any = "ok", **fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id, "content": content, **fields}


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **fields}


# -- system ----------------------------------------------------------------------------------------------------------


def test_system_blocks_are_joined_without_what_changes_from_request_to_request() -> None:
    blocks = [
        text("x-anthropic-billing-header: cc_version=1;"),
        text("You are."),
        text("Do.\n<total_tokens>99 tokens left</total_tokens>"),
    ]
    assert prompt_of(user("hi"), system=blocks).system == "You are.\n\nDo."


def test_text_that_only_looks_like_a_counter_or_a_header_stays() -> None:
    kept = "<total_tokens>5 tokens left</total_tokens> was seen\nx-anthropic-billing-header: too"
    shown = prompt_of(user(kept), system=[text(kept)])
    assert shown.system == kept
    assert shown.turns == [Turn("user", [kept])]


def test_leading_system_messages_become_system() -> None:
    shown = prompt_of(system("Environment"), system([text("Skills")]), user("hi"), system="Base")
    assert shown.system == "Base\n\nEnvironment\n\nSkills"
    assert shown.turns == [Turn("user", ["hi"])]


@pytest.mark.parametrize("content", ["note", [text("note")], [text("note", cache_control={"type": "ephemeral"})]])
def test_a_later_system_message_is_folded_into_the_user_turn_before_it(content: Any) -> None:
    shown = prompt_of(user("hi"), system(content), assistant(text("yes")))
    assert shown.system == ""
    assert shown.turns[0] == Turn("user", ["hi\n\n<system-reminder>\nnote\n</system-reminder>"])


def test_after_a_tool_result_it_is_folded_into_that_result() -> None:
    shown = prompt_of(user("go"), assistant(use("a")), user([result("a", "done")]), system("note"))
    (answer,) = shown.turns[2].parts
    assert answer == ToolResult("call_1", "Bash", "done\n\n<system-reminder>\nnote\n</system-reminder>")


def test_it_never_comes_between_a_call_and_its_result() -> None:
    shown = prompt_of(user("go"), assistant(use("a")), system("note"), user([result("a", "done")]))
    assert [turn.role for turn in shown.turns] == ["user", "assistant", "user"]
    (answer,) = shown.turns[2].parts
    assert isinstance(answer, ToolResult)
    assert answer.text == "done\n\n<system-reminder>\nnote\n</system-reminder>"


def test_after_an_answer_it_opens_the_next_user_turn() -> None:
    shown = prompt_of(user("a"), assistant(text("b")), system("note"), user("c"))
    assert shown.turns[2] == Turn("user", ["<system-reminder>\nnote\n</system-reminder>\n\nc"])


def test_after_the_last_answer_it_is_a_turn_of_its_own() -> None:
    shown = prompt_of(user("a"), assistant(text("b")), system("<system-reminder>x</system-reminder>"))
    assert shown.turns[2] == Turn("user", ["<system-reminder>x</system-reminder>"])


def test_a_conversation_of_system_messages_alone_still_has_a_turn() -> None:
    shown = prompt_of(system("only"))
    assert (shown.system, shown.turns) == ("only", [Turn("user", [])])


# -- turns -----------------------------------------------------------------------------------------------------------


def test_results_come_first_in_a_user_turn_and_ids_are_numbered() -> None:
    shown = prompt_of(
        user("go"),
        assistant(text("look"), use("toolu_x", "Read", file="a"), use("toolu_y", "Bash", command="ls")),
        user([text("and this"), result("toolu_y", "files"), result("toolu_x", [text("one"), text("two")])]),
    )
    assert shown.turns[1].parts == [
        "look",
        ToolCall("call_1", "Read", {"file": "a"}),
        ToolCall("call_2", "Bash", {"command": "ls"}),
    ]
    assert shown.turns[2].parts == [
        ToolResult("call_2", "Bash", "files"),
        ToolResult("call_1", "Read", "one\n\ntwo"),
        "and this",
    ]


def test_text_after_a_call_stays_after_it() -> None:
    shown = prompt_of(user("go"), assistant(text("a"), use("1"), text("b"), text("c")))
    assert shown.turns[1].parts == ["a", ToolCall("call_1", "Bash", {}), "bc"]


def test_an_error_result_says_so() -> None:
    shown = prompt_of(user("go"), assistant(use("a")), user([result("a", "no such file", is_error=True)]))
    (answer,) = shown.turns[2].parts
    assert isinstance(answer, ToolResult)
    assert answer.text == "Error: no such file"


@pytest.mark.parametrize("content", [None, "", [], [text("")]])
def test_an_empty_result_is_empty(content: Any) -> None:
    shown = prompt_of(user("go"), assistant(use("a")), user([result("a", content)]))
    assert shown.turns[2].parts == [ToolResult("call_1", "Bash", "")]


def test_thinking_is_kept_for_models_that_think() -> None:
    messages = (user("go"), assistant({"type": "thinking", "thinking": "hm", "signature": "s"}, text("yes")))
    assert prompt_of(*messages, thinking=True).turns[1].parts == [Thinking("hm"), "yes"]
    assert prompt_of(*messages, thinking=False).turns[1].parts == ["yes"]


def test_redacted_thinking_and_empty_text_leave_nothing() -> None:
    shown = prompt_of(user("go"), assistant({"type": "redacted_thinking", "data": "x"}, text("")))
    assert shown.turns[1] == Turn("assistant", [])


# -- blocks ----------------------------------------------------------------------------------------------------------


def test_images_are_shown_to_a_model_that_sees() -> None:
    blocks = [text("what is"), {"type": "image", "source": PNG}, text("this?")]
    assert prompt_of(user(blocks), vision=True).turns[0].parts == ["what is", Image("image/png", "aGk="), "this?"]
    (omitted,) = prompt_of(user(blocks)).turns[0].parts
    assert omitted == "what is\n\n[image omitted: model has no vision]\n\nthis?"


def test_an_image_by_url_is_noted() -> None:
    block = {"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x.png"}}
    (note,) = prompt_of(user([block]), vision=True).turns[0].parts
    assert isinstance(note, str)
    assert note.startswith("[image omitted")


def test_an_image_in_a_tool_result_belongs_to_the_result() -> None:
    shown = prompt_of(
        user("go"),
        assistant(use("a")),
        user([result("a", [text("see"), {"type": "image", "source": PNG}])]),
        vision=True,
    )
    assert shown.turns[2].parts == [ToolResult("call_1", "Bash", "see", [Image("image/png", "aGk=")])]


def test_a_pdf_is_read_page_by_page() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": pdf_base64("First page", "Second page")}
    (shown,) = prompt_of(user([{"type": "document", "title": "notes.pdf", "source": source}])).turns[0].parts
    assert shown == "[document notes.pdf]\n[page 1]\nFirst page\n\n[page 2]\nSecond page"


@pytest.mark.parametrize("data", ["bm90IGEgcGRm", "%%%", "", "JVBERi0xLjQK"])
def test_a_pdf_that_cannot_be_read_is_noted(data: str) -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": data}
    (shown,) = prompt_of(user([{"type": "document", "source": source}])).turns[0].parts
    assert shown == "[document omitted: it cannot be read here]"


def test_a_pdf_not_read_yet_is_named_and_left_out() -> None:
    source = {"type": "base64", "media_type": "application/pdf", "data": "abcd"}
    body = {"messages": [user([{"type": "document", "source": source}])]}
    shown = build_prompt(body, read_pdf=lambda data: None)
    assert shown.unread == ["abcd"]
    assert shown.turns[0].parts == ["[document omitted: it cannot be read here]"]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ({"type": "text", "media_type": "text/plain", "data": "plain words"}, "[document]\nplain words"),
        ({"type": "base64", "media_type": "text/plain", "data": "cGxhaW4="}, "[document]\nplain"),
        ({"type": "content", "content": [text("inner")]}, "[document]\ninner"),
        ({"type": "url", "url": "http://127.0.0.1/x"}, "[document omitted: it cannot be read here]"),
        ({"type": "file", "file_id": "f"}, "[document omitted: it cannot be read here]"),
        (None, "[document omitted: it cannot be read here]"),
    ],
)
def test_other_documents(source: Any, expected: str) -> None:
    assert prompt_of(user([{"type": "document", "source": source}])).turns[0].parts == [expected]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ({"type": "hologram", "depth": 3}, "[hologram omitted: not supported here]"),
        ({"type": "hologram", "text": "words"}, "words"),
        ({"type": "compaction", "content": "summary"}, "summary"),
        (
            {"type": "search_result", "title": "T", "source": "S", "content": [text("C")]},
            "T\nS\nC",
        ),
    ],
)
def test_unknown_blocks_become_text(block: dict[str, Any], expected: str) -> None:
    assert prompt_of(user([block])).turns[0].parts == [expected]


# -- tools -----------------------------------------------------------------------------------------------------------


def test_tools_stand_in_the_given_order_without_deferred_ones() -> None:
    shown = prompt_of(user("hi"), tools=[tool("Zoo"), tool("Far", defer_loading=True), tool("Ant", type="custom")])
    assert [known.name for known in shown.tools] == ["Zoo", "Ant"]
    assert set(shown.schemas) == {"Zoo", "Far", "Ant"}


def test_server_tools_are_noted() -> None:
    shown = prompt_of(user("hi"), tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}])
    assert shown.tools == []
    assert shown.system == "These tools are not available here: web_search."


def test_a_loaded_tool_is_shown_where_it_was_loaded_in_the_promised_form() -> None:
    references = [{"type": "tool_reference", "tool_name": "WebFetch"}, {"type": "tool_reference", "tool_name": "Gone"}]
    fetch = {
        "name": "WebFetch",
        "description": 'Gets "a" page',
        "input_schema": {"type": "object", "properties": {"url": {"type": "string"}}},
        "defer_loading": True,
    }
    shown = prompt_of(user("go"), assistant(use("a", "ToolSearch")), user([result("a", references)]), tools=[fetch])
    (answer,) = shown.turns[2].parts
    assert isinstance(answer, ToolResult)
    assert answer.text == (
        "<functions>\n"
        '<function>{"description": "Gets \\"a\\" page", "name": "WebFetch", '
        '"parameters": {"properties":{"url":{"type":"string"}},"type":"object"}}</function>\n'
        '<function>{"description": "This tool is not available here.", "name": "Gone"}</function>\n'
        "</functions>"
    )


def test_a_tool_added_in_mid_conversation_is_shown_there() -> None:
    added = {"type": "tool_addition", "tool": {"type": "tool_reference", "name": "Late"}}
    defined = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": tool("Inline")}}
    removed = {"type": "tool_removal", "tool": {"type": "tool_reference", "name": "Late"}}
    shown = prompt_of(user("hi"), system([added, defined, removed]), tools=[tool("Late", defer_loading=True)])
    (words,) = shown.turns[0].parts
    assert isinstance(words, str)
    assert words.startswith("hi\n\n<system-reminder>\nThese tools can be used from now on:\n<functions>")
    assert '"name": "Late", "parameters"' in words
    assert '"name": "Inline", "parameters"' in words
    assert words.endswith("The tool Late cannot be used any more.\n</system-reminder>")
    assert "Inline" in shown.schemas


def test_an_mcp_tool_is_found_by_its_servers_name_for_it() -> None:
    added = {"type": "tool_addition", "tool": {"type": "mcp_tool_reference", "server_name": "git", "name": "log"}}
    shown = prompt_of(user("hi"), system([added]), tools=[tool("mcp__git__log", defer_loading=True)])
    (words,) = shown.turns[0].parts
    assert isinstance(words, str)
    assert '"name": "mcp__git__log", "parameters"' in words


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, ("auto", None, True)),
        ({"type": "auto", "disable_parallel_tool_use": True}, ("auto", None, False)),
        ({"type": "any"}, ("any", None, True)),
        ({"type": "tool", "name": "Bash"}, ("tool", "Bash", True)),
        ({"type": "none"}, ("none", None, True)),
        ({"type": "later"}, ("auto", None, True)),
        ({"type": "tool"}, ("auto", None, True)),
    ],
)
def test_tool_choice(choice: Any, expected: tuple[str, str | None, bool]) -> None:
    found = prompt_of(user("hi"), tool_choice=choice).tool_choice
    assert (found.kind, found.name, found.parallel) == expected


@pytest.mark.parametrize(
    ("thinking", "wanted"),
    [
        (None, False),
        ({"type": "disabled"}, False),
        ({"type": "enabled", "budget_tokens": 2000}, True),
        ({"type": "adaptive", "display": "omitted"}, True),
        ({"type": "between_tools"}, True),
    ],
)
def test_thinking_is_asked_of_models_that_can(thinking: Any, wanted: bool) -> None:
    assert prompt_of(user("hi"), thinking=True).think is False
    body = {"messages": [user("hi")], "thinking": thinking}
    assert build_prompt(body, thinking=True).think is wanted
    assert build_prompt(body, thinking=False).think is False


def test_sampling_and_stops_are_passed_on_only_when_given() -> None:
    shown = prompt_of(user("hi"), temperature=0, top_k=None, top_p=0.5, stop_sequences=["</x>", ""], max_tokens=7)
    assert shown.sampling == {"temperature": 0, "top_p": 0.5}
    assert shown.stop == ("</x>",)
    assert shown.max_tokens == 7


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_the_answers_format(field: str) -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}}
    wanted = {"type": "json_schema", "schema": schema}
    shown = prompt_of(user("hi"), **{field: {"format": wanted} if field == "output_config" else wanted})
    assert shown.format == schema


def test_effort() -> None:
    assert prompt_of(user("hi"), output_config={"effort": "xhigh"}).effort == "xhigh"
    assert prompt_of(user("hi"), output_config={"effort": "boundless"}).effort is None
