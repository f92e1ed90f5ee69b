"""Tool schemas in the shape that Ollama renders the same way every time.

Ollama keeps of a property only its type, description and five further keys, and its qwen3-coder renderer writes those five in the random
order of a Go map: a property with two of them gave three different prompts in twenty renders of one request, each a prefill from
the tools on. So a property is left with at most one, and what it loses, the keys that Ollama does not know included, is told to
the model in the property's description.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import orjson

from llmhost.messages.prompt import Tool
from llmhost.messages.prompt_tools import canonical_json

# In the order of preference for the one key that stays: Ollama's parser reads types out of `anyOf`, renderers show `enum` and `items` best.
KEPT = ("enum", "items", "anyOf", "properties", "required")
KNOWN = frozenset({"type", "description", *KEPT})
# Says nothing to a model.
NOISE = frozenset({"$schema", "$id", "$comment", "title"})


def tool_json(tool: Tool) -> bytes:
    """The tool as an element of the `tools` of `/api/chat`."""
    return _tool_json(tool.name, tool.description, canonical_json(tool.schema))


@lru_cache(maxsize=512)  # a conversation sends the same twenty tools with every turn
def _tool_json(name: str, description: str, schema: str) -> bytes:
    parameters, lost = reduce_parameters(orjson.loads(schema))
    function = {"name": name, "description": _described(description, lost), "parameters": parameters}
    return orjson.dumps({"type": "function", "function": function})


def reduce_parameters(schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A tool's schema as Ollama's type for it can hold it, properties sorted by name; and what it cannot hold."""
    properties = schema.get("properties")
    shown = properties if isinstance(properties, dict) else {}
    parameters: dict[str, Any] = {
        "type": "object",
        "properties": {name: reduce_property(shown[name]) for name in sorted(shown)},
    }
    required = schema.get("required")
    if _lossless("required", required):
        parameters["required"] = required
    taken = {"type", "properties", "required"}
    return parameters, {key: value for key, value in _meaningful(schema).items() if key not in taken}


def reduce_property(schema: Any) -> dict[str, Any]:
    """One property with at most one of the keys whose order Ollama leaves to chance."""
    if not isinstance(schema, dict):
        return {}
    rest = _meaningful(schema)
    reduced: dict[str, Any] = {}
    if _is_type(rest.get("type")):
        reduced["type"] = rest.pop("type")
    description = rest.pop("description", None)
    kept = next((key for key in KEPT if key in rest and _lossless(key, rest[key])), None)
    if kept is not None:
        reduced[kept] = rest.pop(kept)
    text = _described(description if isinstance(description, str) else "", rest)
    if text:
        reduced["description"] = text
    return reduced


def _meaningful(schema: dict[str, Any]) -> dict[str, Any]:
    silent = {"additionalProperties"} if schema.get("additionalProperties") is False else frozenset()
    return {key: value for key, value in schema.items() if key not in NOISE and key not in silent}


def _described(description: str, lost: dict[str, Any]) -> str:
    if not lost:
        return description
    detail = f"JSON Schema: {canonical_json(lost)}"
    return f"{description}\n{detail}" if description else detail


def _is_type(value: Any) -> bool:
    return isinstance(value, str) or _is_strings(value)


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _lossless(key: str, value: Any) -> bool:
    """Whether Ollama keeps the whole of this value (it leaves out what is empty, and types what is inside `properties` and `anyOf`)."""
    if key == "required":
        return _is_strings(value)
    if key == "enum":
        return isinstance(value, list) and bool(value)
    if key == "items":
        return isinstance(value, dict)
    if key == "properties":
        return isinstance(value, dict) and bool(value) and all(map(_is_plain, value.values()))
    return isinstance(value, list) and bool(value) and all(map(_is_plain, value))


def _is_plain(schema: Any) -> bool:
    if not isinstance(schema, dict) or not schema.keys() <= KNOWN:
        return False
    if "type" in schema and not _is_type(schema["type"]):
        return False
    if not isinstance(schema.get("description", ""), str):
        return False
    return all(_lossless(key, schema[key]) for key in KEPT if key in schema)
