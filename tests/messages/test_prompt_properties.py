"""What must hold of every prompt: it never fails, never varies, and only ever grows at its end."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.backends.ollama.codec import LoadedModel
from llmhost.backends.ollama.codec_chat import ChatCodec
from llmhost.messages.prompt import Prompt, ToolResult, Turn
from llmhost.messages.prompt_build import build_prompt
from llmhost.messages.request import parse

MODEL = LoadedModel("scripted", "sha", 32768, 32768, renderer="qwen3-coder")
words = st.text(st.characters(codec="utf-8"), max_size=12)
some_words = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)
scalars = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | words
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3))
TOOLS = ["Bash", "Read", "ToolSearch"]
LATE_TOOLS = ["Calendar", "WebFetch"]


def rendered(prompt: Prompt) -> str:
    """The text as a template would write it: the head, then turn after turn, then the sign for the model to speak."""
    head = json.dumps([prompt.system, [[t.name, t.description, t.schema] for t in prompt.tools]], sort_keys=True)
    return head + "".join(map(rendered_turn, prompt.turns)) + "\n<assistant>"


def rendered_turn(turn: Turn) -> str:
    parts = [f"[{p.id} {p.name} {p.text}]" if isinstance(p, ToolResult) else str(p) for p in turn.parts]
    return f"\n<{turn.role}>{'|'.join(parts)}"


# -- a client that appends -------------------------------------------------------------------------------------------


def spelled(draw: st.DrawFn, words: str) -> Any:
    """The same text as a string or as a block, with or without a cache mark: clients change it from turn to turn."""
    block: dict[str, Any] = {"type": "text", "text": words}
    if draw(st.booleans()):
        block["cache_control"] = {"type": "ephemeral"}
    return [block] if draw(st.booleans()) else words


@st.composite
def exchanges(draw: st.DrawFn) -> list[list[tuple[str, Any]]]:
    """A conversation as what each turn adds: an answer (but for the first), then what the user brings."""
    turns: list[list[tuple[str, Any]]] = []
    calls = 0
    loaded: list[str] = []
    for number in range(draw(st.integers(2, 5))):
        added: list[tuple[str, Any]] = []
        ids: list[str] = []
        if number:
            ids = [f"id{calls + k}" for k in range(draw(st.integers(0, 2)))]
            calls += len(ids)
            added.append(("assistant", (draw(words), ids)))
        if draw(st.booleans()) and not ids:
            added.append(("system", draw(some_words)))
        fetched = draw(st.sampled_from([None, *LATE_TOOLS])) if ids else None
        loaded += [fetched] if fetched else []
        added.append(("user", (draw(words), ids, fetched)))
        if draw(st.booleans()):
            added.append(("system", draw(some_words)))
        turns.append(added)
    return turns


def body_of(draw: st.DrawFn, added: list[tuple[str, Any]]) -> dict[str, Any]:
    messages: list[dict[str, Any]] = []
    loaded: set[str] = set()
    for role, what in added:
        if role == "system":
            messages.append({"role": "system", "content": spelled(draw, what)})
        elif role == "assistant":
            calls = [{"type": "tool_use", "id": id, "name": "Bash", "input": {"n": 1}} for id in what[1]]
            messages.append({"role": "assistant", "content": [{"type": "text", "text": what[0]}, *calls]})
        else:
            messages.append(user_message(draw, *what))
            loaded |= {what[2]} - {None}
    return {
        "system": [
            {"type": "text", "text": f"x-anthropic-billing-header: {draw(words)}"},
            {"type": "text", "text": "Be."},
        ],
        "tools": tools_of(loaded),
        "messages": messages,
    }


def user_message(draw: st.DrawFn, words: str, ids: list[str], fetched: str | None) -> dict[str, Any]:
    if not ids:
        return {"role": "user", "content": spelled(draw, words)}
    results = [{"type": "tool_result", "tool_use_id": id, "content": spelled(draw, words)} for id in ids]
    if fetched:
        results[-1]["content"] = [{"type": "tool_reference", "tool_name": fetched}]
    return {"role": "user", "content": results}


def tools_of(loaded: set[str]) -> list[dict[str, Any]]:
    """As Claude Code sends them: what was loaded is put in by the alphabet, still marked as deferred."""
    names = sorted([*TOOLS, *loaded])
    return [
        {"name": name, "description": name, "input_schema": {"type": "object"}}
        | ({"defer_loading": True} if name in loaded else {})
        for name in names
    ]


@st.composite
def growing_bodies(draw: st.DrawFn) -> list[dict[str, Any]]:
    turns = draw(exchanges())
    flat: list[tuple[str, Any]] = []
    bodies = []
    for added in turns:
        flat += added
        bodies.append(body_of(draw, flat))
    return bodies


@settings(max_examples=60, deadline=None)
@given(growing_bodies())
def test_each_prompt_begins_with_the_one_before(bodies: list[dict[str, Any]]) -> None:
    texts = [rendered(build_prompt(body)) for body in bodies]
    for before, after in pairwise(texts):
        assert after.startswith(before)


@settings(max_examples=60, deadline=None)
@given(growing_bodies())
def test_so_do_the_messages_sent_to_ollama(bodies: list[dict[str, Any]]) -> None:
    sent = [ChatCodec().encode(build_prompt(body), MODEL).segments for body in bodies]
    for before, after in pairwise(sent):
        assert after[: len(before)] == before


# -- any client ------------------------------------------------------------------------------------------------------

blocks = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            ["image", "document", "thinking", "search_result", "tool_addition", "hologram", "tool_removal"]
        )
    },
    optional=dict.fromkeys(("source", "title", "content", "thinking", "tool", "text", "id", "name"), anything),
)
checked_blocks = st.one_of(
    blocks,
    st.fixed_dictionaries(
        {"type": st.just("text"), "text": words}, optional={"cache_control": anything, "citations": anything}
    ),
    st.fixed_dictionaries(
        {"type": st.just("tool_use"), "id": words, "name": words, "input": st.dictionaries(words, anything, max_size=3)}
    ),
    st.fixed_dictionaries(
        {"type": st.just("tool_result"), "tool_use_id": words},
        optional={"content": words | st.lists(blocks, max_size=3), "is_error": anything},
    ),
)
tools = st.fixed_dictionaries(
    {"name": some_words},
    optional={
        "type": words,
        "description": anything,
        "input_schema": st.dictionaries(
            words | st.sampled_from(["properties", "required", "type", "$defs"]), anything, max_size=4
        ),
        "defer_loading": anything,
    },
)
requests = st.fixed_dictionaries(
    {
        "messages": st.lists(
            st.fixed_dictionaries(
                {
                    "role": st.sampled_from(["user", "assistant", "system"]),
                    "content": words | st.lists(checked_blocks, max_size=4),
                }
            ),
            min_size=1,
            max_size=5,
        )
    },
    optional={
        "system": words | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": words}), max_size=3),
        "tools": st.lists(tools, max_size=4),
        "tool_choice": st.dictionaries(words | st.just("type"), anything, max_size=2),
        "thinking": st.dictionaries(words | st.just("type"), anything, max_size=2),
        "output_config": st.dictionaries(words | st.sampled_from(["format", "effort"]), anything, max_size=2),
        "output_format": anything,
        "metadata": anything,
        "context_management": anything,
        "container": anything,
    },
)


@settings(max_examples=150, deadline=None)
@given(requests, st.booleans(), st.booleans())
def test_no_checked_request_fails_and_equal_ones_are_put_the_same_way(
    body: dict[str, Any], vision: bool, thinking: bool
) -> None:
    checked = parse(json.dumps(body).encode())
    kept = copy.deepcopy(checked)
    once = ChatCodec().encode(build_prompt(checked, vision=vision, thinking=thinking), MODEL)
    again = ChatCodec().encode(build_prompt(shuffled(checked), vision=vision, thinking=thinking), MODEL)
    assert once == again
    assert checked == kept, "the request itself is never changed"
    json.loads(once.body)


def shuffled(value: Any) -> Any:
    """The same with every object's keys the other way round, the input of a call aside: there the order is the model's own."""
    if isinstance(value, list):
        return [shuffled(item) for item in value]
    if isinstance(value, dict):
        return {k: v if k == "input" else shuffled(v) for k, v in reversed(value.items())}
    return value
