"""Tools in the prompt: those named at the top, and those that a conversation loads later.

Claude Code inserts a tool it loaded into the middle of `tools`, flagged `defer_loading`. Rendered there it would change the prompt near
its beginning (39 % of it stayed common, measured); rendered where it was loaded, in the form that ToolSearch's own description
promises the model, it changes nothing that came before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import orjson

from llmhost.messages.prompt import Tool


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except orjson.JSONEncodeError:  # a number beyond 64 bits, or nesting beyond 254 levels
        return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def visible_tools(declared: list[dict[str, Any]]) -> list[Tool]:
    """The tools the model is told of up front, in the given order: not deferred ones, not those a server would have to run."""
    return [tool_of(tool) for tool in declared if not tool.get("defer_loading") and is_custom(tool)]


def unavailable_note(declared: list[dict[str, Any]]) -> str:
    """What the model is told of tools that only the vendor's servers run, "" when there are none."""
    names = [str(tool.get("name")) for tool in declared if not is_custom(tool) and not tool.get("defer_loading")]
    return f"These tools are not available here: {', '.join(names)}." if names else ""


def is_custom(tool: dict[str, Any]) -> bool:
    """True for a tool the client runs; `web_search_20250305` and its like are not."""
    return tool.get("type") in (None, "custom")


def tool_of(tool: dict[str, Any]) -> Tool:
    description, schema = tool.get("description"), tool.get("input_schema")
    return Tool(
        name=str(tool.get("name")),
        description=description if isinstance(description, str) else "",
        schema=schema if isinstance(schema, dict) else {},
    )


class Functions:
    """All tools of a request by name, and how one is shown when it is loaded in mid-conversation."""

    def __init__(self, declared: list[dict[str, Any]]) -> None:
        self._tools = {tool["name"]: tool for tool in declared if isinstance(tool.get("name"), str)}

    def define(self, tool: dict[str, Any]) -> str:
        """Add a tool that a message defines inline; its name."""
        name = str(tool.get("name"))
        self._tools[name] = tool
        return name

    def find(self, name: str, server: str | None = None) -> str:
        """The name under which a tool is known; an MCP tool may be named by its server's own name for it."""
        return f"mcp__{server}__{name}" if server and name not in self._tools else name

    def block(self, names: Iterable[str]) -> str:
        """The `<functions>` block that shows these tools to the model."""
        return "\n".join(["<functions>", *map(self._line, names), "</functions>"])

    def schemas(self) -> dict[str, dict[str, Any]]:
        """The input schema of each tool."""
        return {name: tool_of(tool).schema for name, tool in self._tools.items()}

    def _line(self, name: str) -> str:
        tool = self._tools.get(name)
        if tool is None or not is_custom(tool):
            return f'<function>{{"description": "This tool is not available here.", "name": {canonical_json(name)}}}</function>'
        shown = tool_of(tool)
        description, parameters = canonical_json(shown.description), canonical_json(shown.schema)
        return f'<function>{{"description": {description}, "name": {canonical_json(name)}, "parameters": {parameters}}}</function>'
