"""Arguments in the types their schema asks for."""

from __future__ import annotations

from typing import Any

import pytest

from llmhost.backends.ollama.coerce import coerce_arguments


@pytest.mark.parametrize(
    ("schema", "value", "expected"),
    [
        ({"type": "integer"}, "5", 5),
        ({"type": "integer"}, "5.5", "5.5"),
        ({"type": "integer"}, 5.0, 5),
        ({"type": "integer"}, "five", "five"),
        ({"type": "number"}, "5.5", 5.5),
        ({"type": "boolean"}, "true", True),
        ({"type": "boolean"}, "True", True),
        ({"type": "boolean"}, "yes", "yes"),
        ({"type": "array"}, '["a"]', ["a"]),
        ({"type": "array"}, '{"a":1}', '{"a":1}'),
        ({"type": "object"}, '{"a":1}', {"a": 1}),
        ({"type": "string"}, "5", "5"),
        ({"type": "string"}, 5, "5"),
        ({"type": "string"}, True, "true"),
        ({"type": "string"}, {"a": 1}, {"a": 1}),
        ({"type": ["string", "number"]}, "5", "5"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "5", 5),
        ({"oneOf": [{"type": "array"}]}, "[1]", [1]),
        ({"$ref": "#/$defs/N"}, "7", 7),
        ({"$ref": "#/$defs/missing"}, "7", "7"),
        ({"$ref": "#/$defs/Loop"}, "7", "7"),
        ({"enum": [1, 2]}, "2", 2),
        ({"const": True}, "true", True),
        ({"type": "later"}, "5", "5"),
        ({}, "5", "5"),
        (True, "5", "5"),
        ({"type": ["integer", "null"]}, None, None),
        ({}, None, None),
    ],
)
def test_values(schema: Any, value: Any, expected: Any) -> None:
    defs = {"N": {"type": "integer"}, "Loop": {"$ref": "#/$defs/Loop"}}
    found = coerce_arguments({"x": value}, {"properties": {"x": schema}, "$defs": defs})
    assert found == {"x": expected}
    assert type(found["x"]) is type(expected)


def test_a_null_that_is_not_allowed() -> None:
    schema = {
        "properties": {"content": {"type": "string"}, "limit": {"type": "integer"}, "n": {"type": "integer"}},
        "required": ["content", "n"],
    }
    assert coerce_arguments({"content": None, "limit": None, "n": None}, schema) == {"content": "null", "n": None}


@pytest.mark.parametrize("schema", [{}, {"properties": None}, {"properties": []}])
def test_without_a_schema_nothing_changes(schema: dict[str, Any]) -> None:
    assert coerce_arguments({"a": None, "b": "5"}, schema) == {"a": None, "b": "5"}
