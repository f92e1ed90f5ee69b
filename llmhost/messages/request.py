"""Reading a request of the Messages API: what is checked, and nothing else.

Clients change: only the shapes this server relies on are checked. An unknown field, beta, block type or tool type is never an error.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from llmhost.messages.errors import ApiError, invalid

MAX_BODY_BYTES = 32 * 1024 * 1024  # the vendor's own limit; Claude Code words the 413 as "max 32MB"
ROLES = ("user", "assistant", "system")
UNWRITABLE = ("Recursion limit reached", "Integer exceeds 64-bit range")
MAX_NESTED_RESULTS = 4  # content inside a tool_result inside content; the API itself has one level


def body_too_large() -> ApiError:
    return ApiError(413, f"request exceeds the maximum of {MAX_BODY_BYTES} bytes", should_retry=False)


def unwritable(error: TypeError) -> ApiError | None:
    """The 400 for what could be read but not be written again (orjson writes 254 levels and 64 bits); None for any other TypeError.

    orjson's error is the built-in TypeError itself, so only its words tell it from a bug of ours.
    """
    return invalid(f"the request cannot be passed on: {error}") if str(error) in UNWRITABLE else None


def parse(raw: bytes) -> dict[str, Any]:
    """The body as a dict, its types checked. Raises ApiError 400 that names the field."""
    body = _decode(raw)
    if not isinstance(body, dict):
        raise invalid("the request body must be a JSON object")
    _check_messages(body.get("messages"))
    _check_system(body.get("system"))
    _check_tools(body.get("tools"))
    _check_scalars(body)
    return body


def session_of(body: dict[str, Any], headers: dict[bytes, bytes]) -> str | None:
    """Claude Code's session id: from its header, else from `metadata.user_id` (JSON, or the older `…_session_ID`)."""
    header = headers.get(b"x-claude-code-session-id")
    if header:
        return header.decode("latin-1")
    metadata = body.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user, str):
        return None
    if user.startswith("{"):
        try:
            found = json.loads(user).get("session_id")
        except ValueError:
            return None
        return found if isinstance(found, str) else None
    older = re.search(r"_session_([0-9a-f-]{36})\Z", user)
    return older[1] if older else None


def _decode(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        try:
            # JavaScript writes half of a cut-off emoji as a lone surrogate escape, which orjson refuses: such a request still counts.
            return _without_surrogates(json.loads(raw.decode("utf-8"), parse_constant=_no_constant))
        except (ValueError, RecursionError):
            raise invalid(f"the request body is not valid JSON: {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _check_messages(messages: Any) -> None:
    if not isinstance(messages, list):
        raise invalid("messages: a list of messages is required")
    if not messages:
        raise invalid("messages: at least one message is required")
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise invalid(f"messages.{number}: must be an object")
        if message.get("role") not in ROLES:
            raise invalid(f"messages.{number}.role: must be one of {', '.join(ROLES)}")
        _check_content(message.get("content"), f"messages.{number}.content")


def _check_content(content: Any, where: str, depth: int = 0) -> None:
    if isinstance(content, str):
        return
    if depth > MAX_NESTED_RESULTS:
        raise invalid(f"{where[:80]}…: content is nested too deeply")
    if not isinstance(content, list):
        raise invalid(f"{where}: must be a string or a list of content blocks")
    for number, block in enumerate(content):
        if not isinstance(block, dict) or not isinstance(block.get("type"), str):
            raise invalid(f"{where}.{number}: must be an object with a type")
        kind = block["type"]
        if kind == "text":
            _check_text(block, f"{where}.{number}")
        elif kind == "tool_use":
            _check_tool_use(block, f"{where}.{number}")
        elif kind == "tool_result":
            _check_tool_result(block, f"{where}.{number}", depth)


def _check_text(block: dict[str, Any], where: str) -> None:
    if not isinstance(block.get("text"), str):
        raise invalid(f"{where}.text: must be a string")


def _check_tool_use(block: dict[str, Any], where: str) -> None:
    if not isinstance(block.get("name"), str) or not isinstance(block.get("id"), str):
        raise invalid(f"{where}: a tool_use block needs a string id and a string name")
    if not isinstance(block.get("input", {}), dict):
        raise invalid(f"{where}.input: must be an object")


def _check_tool_result(block: dict[str, Any], where: str, depth: int) -> None:
    if not isinstance(block.get("tool_use_id"), str):
        raise invalid(f"{where}.tool_use_id: must be a string")
    if block.get("content") is not None:
        _check_content(block["content"], f"{where}.content", depth + 1)


def _check_system(system: Any) -> None:
    if system is None or isinstance(system, str):
        return
    if not isinstance(system, list):
        raise invalid("system: must be a string or a list of text blocks")
    _check_content(system, "system")


def _check_tools(tools: Any) -> None:
    if tools is None:
        return
    if not isinstance(tools, list):
        raise invalid("tools: must be a list")
    for number, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise invalid(f"tools.{number}: must be an object")
        if tool.get("type") in (None, "custom") and (not isinstance(tool.get("name"), str) or not tool["name"]):
            raise invalid(f"tools.{number}: a tool needs a name")
        if not isinstance(tool.get("input_schema", {}), dict):
            raise invalid(f"tools.{number}.input_schema: must be an object")


_SCALARS: dict[str, tuple[tuple[type, ...], str]] = {
    "model": ((str,), "a string"),
    "max_tokens": ((int,), "an integer"),
    "stream": ((bool,), "true or false"),
    "temperature": ((int, float), "a number"),
    "top_p": ((int, float), "a number"),
    "top_k": ((int,), "an integer"),
    "tool_choice": ((dict,), "an object"),
    "thinking": ((dict,), "an object"),
    "output_config": ((dict,), "an object"),
    "stop_sequences": ((list,), "a list of strings"),
}


def _check_scalars(body: dict[str, Any]) -> None:
    for name, (types, wording) in _SCALARS.items():
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise invalid(f"{name}: must be {wording}")
    if (body.get("max_tokens") or 0) < 0:
        raise invalid("max_tokens: must not be negative")
    if not all(isinstance(stop, str) for stop in body.get("stop_sequences") or ()):
        raise invalid("stop_sequences: must be a list of strings")
