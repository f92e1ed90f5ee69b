"""From a parsed request to its `Prompt`.

Nothing here fails on what it does not know: an unknown field is left out, an unknown block becomes a note. What the checks of
`messages.request` let through gives a prompt, and the same request always gives the same one.
"""

from __future__ import annotations

from typing import Any

from llmhost.messages.documents import pdf_text
from llmhost.messages.prompt import PdfReader, Prompt, ToolChoice
from llmhost.messages.prompt_blocks import BlockReader
from llmhost.messages.prompt_tools import Functions, unavailable_note, visible_tools
from llmhost.messages.prompt_turns import conversation
from llmhost.messages.system import system_text

SAMPLING = ("temperature", "top_p", "top_k")
EFFORTS = ("low", "medium", "high", "xhigh", "max")


def build_prompt(
    body: dict[str, Any], *, vision: bool = False, thinking: bool = False, read_pdf: PdfReader = pdf_text
) -> Prompt:
    """The prompt of a checked request body, for a model that can or cannot see (`vision`) and reason (`thinking`).

    `read_pdf` turns a base64 PDF into text, or gives None when it has not read that one yet.
    """
    declared = [tool for tool in body.get("tools") or () if isinstance(tool, dict)]
    functions = Functions(declared)
    reader = BlockReader(functions, read_pdf, vision=vision)
    leading, turns = conversation(body["messages"], reader, keep_thinking=thinking)
    system = [system_text(body.get("system")), *leading, unavailable_note(declared)]
    return Prompt(
        system="\n\n".join(text for text in system if text),
        tools=visible_tools(declared),
        turns=turns,
        schemas=functions.schemas(),
        tool_choice=_tool_choice(body.get("tool_choice")),
        stop=tuple(stop for stop in body.get("stop_sequences") or () if stop),
        max_tokens=body.get("max_tokens"),
        sampling={name: body[name] for name in SAMPLING if body.get(name) is not None},
        think=thinking and _wants_thinking(body.get("thinking")),
        effort=_effort(body),
        format=_format(body),
        unread=reader.unread,
    )


def _tool_choice(choice: Any) -> ToolChoice:
    if not isinstance(choice, dict):
        return ToolChoice()
    kind, name = choice.get("type"), choice.get("name")
    parallel = choice.get("disable_parallel_tool_use") is not True
    if kind == "tool" and isinstance(name, str):
        return ToolChoice("tool", name, parallel)
    return ToolChoice(kind if kind in ("any", "none") else "auto", None, parallel)


def _wants_thinking(thinking: Any) -> bool:
    """`enabled`, `adaptive`, `between_tools` and whatever comes after them; a request without the field wants none."""
    return isinstance(thinking, dict) and thinking.get("type") not in (None, "disabled")


def _output(body: dict[str, Any]) -> dict[str, Any]:
    output = body.get("output_config")
    return output if isinstance(output, dict) else {}


def _effort(body: dict[str, Any]) -> str | None:
    effort = _output(body).get("effort")
    return effort if effort in EFFORTS else None


def _format(body: dict[str, Any]) -> dict[str, Any] | None:
    """The JSON Schema of `output_config.format`, or of `output_format`, its name in an earlier beta."""
    wanted = _output(body).get("format") or body.get("output_format")
    if not isinstance(wanted, dict) or wanted.get("type") != "json_schema":
        return None
    schema = wanted.get("schema")
    return schema if isinstance(schema, dict) else None
