"""Arguments of a call, in the types their schema asks for.

Ollama's parser knows no schema of a tool that was loaded in mid-conversation and hands every value over as a string; it also makes the
text `null` a JSON null whatever the type is. Only conversions that cannot be wrong are made; everything else stays as it came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson

_IS: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "string": lambda value: isinstance(value, str),
    "null": lambda value: value is None,
}
PYTHON_BOOLEANS = {"True": True, "False": False}


def coerce_arguments(arguments: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """The arguments with values of the declared types where that is safe; an optional one that is null without allowing it is left out."""
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return arguments
    required = schema.get("required") or ()
    coerced: dict[str, Any] = {}
    for name, value in arguments.items():
        types = types_of(properties.get(name), schema)
        if value is None and types and "null" not in types:
            if name in required:
                coerced[name] = "null" if "string" in types else None
        else:
            coerced[name] = _coerce(value, types)
    return coerced


def types_of(schema: Any, root: dict[str, Any]) -> frozenset[str]:
    """The JSON types a schema allows, empty when it does not say. `root` resolves references."""
    return frozenset(_types(schema, root, depth=0))


def _types(schema: Any, root: dict[str, Any], depth: int) -> Iterator[str]:
    if not isinstance(schema, dict) or depth > 4:
        return
    declared = schema.get("type")
    if isinstance(declared, str):
        yield declared
    elif isinstance(declared, list):
        yield from (item for item in declared if isinstance(item, str))
    for value in _items(schema, "enum") or ([schema["const"]] if "const" in schema else ()):
        yield from (name for name, matches in _IS.items() if not declared and matches(value))
    for key in ("anyOf", "oneOf"):
        for branch in _items(schema, key):
            yield from _types(branch, root, depth + 1)
    yield from _types(_referred(schema.get("$ref"), root), root, depth + 1)


def _items(schema: dict[str, Any], key: str) -> list[Any]:
    """A list in a schema; [] where a careless tool has something else there."""
    value = schema.get(key)
    return value if isinstance(value, list) else []


def _referred(reference: Any, root: dict[str, Any]) -> Any:
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return None
    found: Any = root
    for step in reference[2:].split("/"):
        found = found.get(step) if isinstance(found, dict) else None
    return found


def _coerce(value: Any, types: frozenset[str]) -> Any:
    if not types or any(_IS[name](value) for name in types if name in _IS):
        return value
    if isinstance(value, str):
        return _parsed(value, types)
    if isinstance(value, float) and value.is_integer() and "integer" in types:
        return int(value)
    if types <= {"string", "null"} and isinstance(value, int | float):
        return orjson.dumps(value).decode()
    return value


def _parsed(text: str, types: frozenset[str]) -> Any:
    if "boolean" in types and text in PYTHON_BOOLEANS:
        return PYTHON_BOOLEANS[text]
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return text
    return value if any(_IS[name](value) for name in types if name in _IS) else text
