"""The smallest value for a schema, judged by a real validator."""

from __future__ import annotations

import jsonschema
import pytest

from llmhost.backends.rehearsal.instance import SchemaError, minimal_instance

NODE = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}},
    "required": ["next"],
}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        True,
        {"type": "object"},
        {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "integer"}},
            "required": ["b"],
            "additionalProperties": False,
        },
        {"properties": {"a": {"enum": ["x", "y"]}, "b": {"const": 7}}, "required": ["a", "b"]},
        {"type": "object", "required": ["free"]},
        {"type": "object", "properties": {"a": {"type": "null"}}, "minProperties": 3},
        {"type": "array", "items": {"type": "number"}},
        {
            "type": "array",
            "items": {"type": "object", "required": ["x"], "properties": {"x": {"type": "boolean"}}},
            "minItems": 2,
        },
        {
            "type": "array",
            "prefixItems": [{"type": "integer"}, {"type": "string"}],
            "minItems": 3,
            "items": {"type": "null"},
        },
        {"type": ["string", "null"]},
        {"type": "string", "minLength": 30},
        {"type": "string", "maxLength": 3},
        {"type": "string", "format": "date-time"},
        {"type": "string", "format": "email"},
        {"type": "string", "format": "uuid"},
        {"type": "integer", "minimum": 5},
        {"type": "integer", "maximum": -5},
        {"type": "integer", "exclusiveMinimum": 0},
        {"type": "integer", "exclusiveMaximum": 0},
        {"type": "integer", "minimum": 5, "multipleOf": 4},
        {"type": "integer", "maximum": -5, "multipleOf": 4},
        {"type": "number", "exclusiveMinimum": 0, "maximum": 0.5},
        {"type": "number", "exclusiveMinimum": -1, "exclusiveMaximum": -0.5},
        {"anyOf": [{"type": "integer"}, {"type": "string"}]},
        {
            "type": "object",
            "properties": {"a": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        {
            "allOf": [
                {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"b": {"type": "null"}}, "required": ["b"]},
            ]
        },
        {"$ref": "#/$defs/node", "$defs": {"node": NODE}},
        {
            "$defs": {"a/b": {"enum": [3]}},
            "type": "object",
            "properties": {"x": {"$ref": "#/$defs/a~1b"}},
            "required": ["x"],
        },
    ],
)
def test_the_instance_is_valid(schema):
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    jsonschema.Draft202012Validator(schema, format_checker=checker).validate(minimal_instance(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/nowhere"},
        {"$ref": "http://example.com/schema"},
        {"$ref": "#"},
        {"$defs": {"a": {"required": ["a"], "properties": {"a": {"$ref": "#/$defs/a"}}}}, "$ref": "#/$defs/a"},
    ],
)
def test_a_schema_without_a_finite_value_is_refused(schema):
    with pytest.raises(SchemaError):
        minimal_instance(schema)
