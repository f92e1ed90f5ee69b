"""Tool schemas as Ollama is given them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmhost.backends.ollama.schema import KEPT, reduce_property, tool_json
from llmhost.messages.prompt import Tool
from tests.backends.ollama.conftest import CONTEXT
from tests.support.ollama_server import OllamaServer


def reduced(schema: dict[str, Any], description: str = "Does.") -> dict[str, Any]:
    function: dict[str, Any] = json.loads(tool_json(Tool("T", description, schema)))["function"]
    return function


def detail(text: str) -> dict[str, Any]:
    """The JSON that a description ends with."""
    found: dict[str, Any] = json.loads(text.partition("JSON Schema: ")[2])
    return found


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, {"type": "string"}),
        ({"type": ["string", "null"], "description": "d"}, {"type": ["string", "null"], "description": "d"}),
        ({"type": "string", "enum": ["a"]}, {"type": "string", "enum": ["a"]}),
        (
            {"type": "array", "items": {"type": "string", "minLength": 1}},
            {"type": "array", "items": {"type": "string", "minLength": 1}},
        ),
        (
            {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False},
            {"type": "object", "properties": {"a": {"type": "string"}}},
        ),
        ({"$schema": "s", "title": "t"}, {}),
        (True, {}),
    ],
)
def test_what_ollama_can_hold_is_left_alone(schema: Any, expected: dict[str, Any]) -> None:
    assert reduce_property(schema) == expected


def test_a_second_key_moves_into_the_description() -> None:
    schema = {
        "type": "object",
        "description": "Where.",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
    }
    assert reduce_property(schema) == {
        "type": "object",
        "description": 'Where.\nJSON Schema: {"required":["a"]}',
        "properties": {"a": {"type": "string"}},
    }


def test_what_ollama_would_drop_moves_into_the_description() -> None:
    schema = {"type": "integer", "minimum": 1, "default": 5}
    assert reduce_property(schema) == {"type": "integer", "description": 'JSON Schema: {"default":5,"minimum":1}'}


def test_nested_detail_that_ollama_would_drop_keeps_the_whole_out() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}}
    assert reduce_property(schema) == {
        "type": "object",
        "description": 'JSON Schema: {"properties":{"n":{"minimum":1,"type":"integer"}}}',
    }


def test_a_tools_own_schema() -> None:
    function = reduced(
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": {"b": {"$ref": "#/$defs/X"}, "a": {"type": "string"}},
            "required": ["b"],
            "additionalProperties": False,
            "$defs": {"X": {"type": "integer"}},
        }
    )
    assert list(function["parameters"]["properties"]) == ["a", "b"]
    assert function["parameters"]["required"] == ["b"]
    assert set(function["parameters"]) == {"type", "properties", "required"}
    assert function["description"] == 'Does.\nJSON Schema: {"$defs":{"X":{"type":"integer"}}}'
    assert function["parameters"]["properties"]["b"] == {"description": 'JSON Schema: {"$ref":"#/$defs/X"}'}


@pytest.mark.parametrize("schema", [{}, {"type": "object"}, {"properties": None, "required": []}, {"properties": []}])
def test_a_tool_without_parameters(schema: dict[str, Any]) -> None:
    assert reduced(schema)["parameters"]["properties"] == {}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
names = st.sampled_from([*KEPT, "type", "description", "minimum", "$defs", "title", "additionalProperties", "oneOf"])


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(names, values, max_size=5))
def test_at_most_one_key_is_left_to_chance_and_nothing_is_lost(schema: dict[str, Any]) -> None:
    found = reduce_property(schema)
    assert found.keys() <= {"type", "description", *KEPT}
    assert len(found.keys() & set(KEPT)) <= 1
    told = detail(found["description"]) if "JSON Schema: " in found.get("description", "") else {}
    for name in schema.keys() & {*KEPT, "minimum", "$defs", "oneOf"}:
        assert found.get(name, told.get(name)) == schema[name]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    schema=st.dictionaries(
        st.text("ab", min_size=1, max_size=2), st.dictionaries(names, values, max_size=4), max_size=3
    )
)
def test_ollama_takes_any_schema_and_renders_it_the_same_way_each_time(
    ollama: OllamaServer, schema: dict[str, Any]
) -> None:
    tool = json.loads(
        tool_json(Tool("T", "Does.", {"type": ["object"], "properties": schema, "required": [1], "items": {}}))
    )
    request = {
        "model": "scripted",
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [tool],
        "options": {"num_ctx": CONTEXT},
        "_debug_render_only": True,
    }
    renders = {ollama.ask("/api/chat", request)["_debug_info"]["rendered_template"] for _ in range(3)}
    assert len(renders) == 1


def test_the_schemas_of_a_conversation_are_reduced_once() -> None:
    tool = Tool("T", "Does.", {"properties": {"a": {"type": "string"}}})
    assert tool_json(tool) is tool_json(Tool("T", "Does.", {"properties": {"a": {"type": "string"}}}))
