"""The smallest value that fits a JSON schema: the answer where a schema rules the output or a tool must be called.

Covers what structured outputs and tool definitions use: types, `required`, `enum`, `const`, local `$ref`,
`allOf`/`anyOf`/`oneOf`, bounds of numbers, lengths and formats of strings, `minItems`, `minProperties`. Not covered:
`pattern`, `not`, `if`, `uniqueItems`.
"""

from __future__ import annotations

import math
from typing import Any

WORD = "rehearsal"
MAX_DEPTH = 32
FORMATS = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "duration": "P1D",
    "email": "rehearsal@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class SchemaError(ValueError):
    """The schema cannot be met: a reference leads nowhere or in a circle."""


def minimal_instance(schema: Any) -> Any:
    """A value valid for `schema`. Raises SchemaError."""
    try:
        return _Builder(schema).build(schema, 0)
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        if isinstance(error, SchemaError):
            raise
        raise SchemaError(f"the schema cannot be read ({error})") from error


class _Builder:
    def __init__(self, root: Any) -> None:
        self.root = root

    def build(self, schema: Any, depth: int) -> Any:
        if depth > MAX_DEPTH:
            raise SchemaError("the schema refers to itself without end")
        if not isinstance(schema, dict):
            return WORD
        schema = self._flatten(schema, depth)
        if "const" in schema:
            return schema["const"]
        if isinstance(schema.get("enum"), list) and schema["enum"]:
            return schema["enum"][0]
        return self._by_type(schema, depth)

    def _flatten(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        """The schema with its reference followed, `allOf` merged in and the first of `anyOf`/`oneOf` chosen."""
        if depth > MAX_DEPTH:
            raise SchemaError("the schema refers to itself without end")
        parts = list(schema.get("allOf") or ())
        parts += [options[0] for name in ("anyOf", "oneOf") if (options := schema.get(name))]
        if "$ref" in schema:
            parts.append(self._resolve(str(schema["$ref"])))
        merged = {name: value for name, value in schema.items() if name not in ("allOf", "anyOf", "oneOf", "$ref")}
        for part in parts:
            if isinstance(part, dict):
                merged = _merge(merged, self._flatten(part, depth + 1))
        return merged

    def _resolve(self, reference: str) -> Any:
        if not reference.startswith("#"):
            raise SchemaError(f"the schema refers to {reference!r}, which is not part of it")
        found = self.root
        for step in reference[1:].split("/")[1:]:
            try:
                found = found[step.replace("~1", "/").replace("~0", "~")]
            except (KeyError, TypeError):
                raise SchemaError(f"the schema refers to {reference!r}, which is not there") from None
        return found

    def _by_type(self, schema: dict[str, Any], depth: int) -> Any:
        kind = _type_of(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind in ("integer", "number"):
            return _number(schema, whole=kind == "integer")
        if kind == "boolean":
            return False
        return None if kind == "null" else _string(schema)

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        names = list(dict.fromkeys(schema.get("required") or ()))
        wanted = schema.get("minProperties", 0)
        names += [name for name in properties if name not in names][: max(0, wanted - len(names))]
        names += [f"{WORD}{number}" for number in range(max(0, wanted - len(names)))]
        other = schema.get("additionalProperties", True)
        return {name: self.build(properties.get(name, other), depth + 1) for name in names}

    def _array(self, schema: dict[str, Any], depth: int) -> list[Any]:
        first = schema.get("prefixItems") or []
        items = [first[at] if at < len(first) else schema.get("items") for at in range(schema.get("minItems", 0))]
        return [self.build(item, depth + 1) for item in items]


def _merge(base: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    merged = {**other, **base}
    if "properties" in base or "properties" in other:
        merged["properties"] = {**(other.get("properties") or {}), **(base.get("properties") or {})}
    if "required" in base or "required" in other:
        merged["required"] = [*(base.get("required") or ()), *(other.get("required") or ())]
    return merged


def _type_of(schema: dict[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next(iter(kind), None)
    if isinstance(kind, str):
        return kind
    if "properties" in schema or "required" in schema:
        return "object"
    return "array" if "items" in schema or "prefixItems" in schema else "string"


def _number(schema: dict[str, Any], *, whole: bool) -> int | float:
    """The number nearest to zero within the bounds, a multiple of `multipleOf`."""
    step = schema.get("multipleOf") or (1 if whole else 0)
    low = _tightest(schema, "minimum", "exclusiveMinimum", max)
    high = _tightest(schema, "maximum", "exclusiveMaximum", min)
    number = min(max(0, low), high)
    if step:
        number = (math.ceil(number / step) if number >= low and number > 0 else math.floor(number / step)) * step
    if number == schema.get("exclusiveMinimum"):
        number += step or (min(1.0, (high - number) / 2))
    if number == schema.get("exclusiveMaximum"):
        number -= step or (min(1.0, (number - low) / 2))
    return int(number) if whole or number == int(number) else number


def _tightest(schema: dict[str, Any], inclusive: str, exclusive: str, choose: Any) -> float:
    open_end = -math.inf if choose is max else math.inf
    bounds = [schema[name] for name in (inclusive, exclusive) if isinstance(schema.get(name), int | float)]
    return float(choose([*bounds, open_end]))


def _string(schema: dict[str, Any]) -> str:
    text = FORMATS.get(str(schema.get("format")), WORD)
    text = text.ljust(schema.get("minLength", 0), "-")
    return text[: schema["maxLength"]] if "maxLength" in schema else text
