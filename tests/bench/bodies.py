"""Requests to measure with: `tiny`, and `claude_code`, which has the shape and size of one of Claude Code's (about 80 KB).

Each has a number in the last user message, so that it can be made unlike all before it without encoding it again.
"""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

NUMBER = "#000000000000"
VOCABULARY = (
    "the file path reads writes when must should never tool command output error returns test run change commit branch search list "
    "string number option default example note result message request answer server cache model token stream event plan task"
)
TOOL_NAMES = (
    "Task Bash Glob Grep LS Read Edit MultiEdit Write NotebookRead NotebookEdit WebFetch WebSearch TodoWrite TodoRead BashOutput KillShell "
    "SlashCommand Skill ToolSearch"
)
WORDS = VOCABULARY.split()


_numbers = itertools.count(1)


class Body:
    """A request body of which any number of different ones can be made."""

    def __init__(self, value: dict[str, Any]) -> None:
        before, _, after = json.dumps(value, separators=(",", ":")).partition(NUMBER)
        self._before, self._after = before.encode(), after.encode()

    def same(self) -> bytes:
        return self._before + NUMBER.encode() + self._after

    def fresh(self) -> bytes:
        """Unlike every other of this process."""
        return b"%b#%012d%b" % (self._before, next(_numbers), self._after)


def tiny(*, stream: bool = False) -> Body:
    return Body(
        _request(
            [{"role": "user", "content": f"One line about the weather in the mountains, please. {NUMBER}"}], stream
        )
    )


def claude_code(*, stream: bool = False) -> Body:
    source = random.Random(20_261_121)
    request = _request(_conversation(source), stream)
    request["system"] = [_text("You are a coding agent."), _text(_prose(source, 14_000))]
    request["tools"] = [_tool(source, name) for name in TOOL_NAMES.split()]
    request["thinking"] = {"type": "adaptive", "display": "omitted"}
    return Body(request)


def ollama_chat(body: Body) -> Body:
    """The same request in Ollama's words: what is sent to the stub directly."""
    request = json.loads(body.same())
    messages = [{"role": "system", "content": json.dumps(request.get("system", ""))}]
    messages += [
        {"role": m["role"], "content": m["content"] if isinstance(m["content"], str) else json.dumps(m["content"])}
        for m in request["messages"]
    ]
    return Body(
        {"model": "stub:latest", "messages": messages, "tools": request.get("tools", []), "stream": request["stream"]}
    )


def _request(messages: list[dict[str, Any]], stream: bool) -> dict[str, Any]:
    return {
        "model": "claude-bench",
        "max_tokens": 8192,
        "messages": messages,
        "stream": stream,
        "metadata": {"user_id": "bench"},
    }


def _conversation(source: random.Random) -> list[dict[str, Any]]:
    """Reminder, prompt, six tool calls with their results, and the question."""
    reminder = f"<system-reminder>\n{_prose(source, 2_500)}\n</system-reminder>"
    messages = [{"role": "user", "content": [_text(reminder), _text(_prose(source, 400))]}]
    for turn in range(6):
        id = f"toolu_{turn:024d}"
        call = {
            "type": "tool_use",
            "id": id,
            "name": "Read",
            "input": {"file_path": f"/src/module_{turn}.py", "limit": 200},
        }
        messages.append({"role": "assistant", "content": [_text(_prose(source, 200)), call]})
        result = {"type": "tool_result", "tool_use_id": id, "content": _listing(source, 5_000)}
        messages.append({"role": "user", "content": [result]})
    messages.append(
        {"role": "user", "content": [{**_text(f"Now fix it. {NUMBER}"), "cache_control": {"type": "ephemeral"}}]}
    )
    return messages


def _tool(source: random.Random, name: str) -> dict[str, Any]:
    properties = {word: {"type": "string", "description": _prose(source, 120)} for word in source.sample(WORDS, 4)}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties)[:2],
        "additionalProperties": False,
    }
    return {"name": name, "description": _prose(source, 800), "input_schema": schema}


def _prose(source: random.Random, size: int) -> str:
    return " ".join(source.choices(WORDS, k=size // 5))[:size]


def _listing(source: random.Random, size: int) -> str:
    lines = (f'{number:6d}\t    {"_".join(source.choices(WORDS, k=3))}(a, b="x")' for number in itertools.count(1))
    return "\n".join(itertools.islice(lines, size // 40))


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}
