"""Codec `ollama-chat`: `/api/chat`, where Ollama renders the prompt and parses the answer. For every model.

What it cannot do, because the prompt is not ours to write: `tool_choice` `any` and `tool` are only asked for in words at the prompt's
end (and may be ignored), a call's arguments come all at once when the call is complete, and whether a prefilled assistant turn is
continued is up to the model's template.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import orjson

from llmhost.backends.ollama.codec import Decoder, Encoded, LoadedModel, Outcome, Segment
from llmhost.backends.ollama.decoder_chat import ChatDecoder
from llmhost.backends.ollama.schema import tool_json
from llmhost.messages.prompt import Image, Prompt, Thinking, ToolCall, ToolResult, Turn
from llmhost.messages.prompt_turns import reminder
from llmhost.messages.writer import EventWriter

# Go prints a number of a million or more as 1e+06 when qwen3-coder's renderer writes it into the history.
PLAIN_NUMBERS_BELOW = 1_000_000
THINK_LEVELS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
LEVELLED_FAMILIES = ("gptoss", "gpt-oss")
IMAGE_SIZE = 4_000  # bytes of text with as many tokens as a picture, roughly; Ollama itself counts 768 tokens
HASHED_ABOVE = 65_536  # a longer piece is remembered by its hash


class ChatCodec:
    """See the module's docstring."""

    name = "ollama-chat/1"

    def encode(self, prompt: Prompt, model: LoadedModel, *, stream: bool = True) -> Encoded:
        messages = list(chat_messages(prompt, plain_arguments=_plain_arguments(model)))
        rendered = [orjson.dumps(message) for message in messages]
        tools = [tool_json(tool) for tool in prompt.tools]
        limit = num_predict(prompt, model)
        head = orjson.dumps({"stream": stream, **_settings(prompt, model, limit)})
        body = b'%b,"messages":[%b],"tools":[%b]}' % (head[:-1], b",".join(rendered), b",".join(tools))
        return Encoded("/api/chat", body, tuple(_segments(messages, rendered, tools)), limit)

    def echo(self, prompt: Prompt, outcome: Outcome, model: LoadedModel) -> Segment:
        known = {part.id for turn in prompt.turns for part in turn.parts if isinstance(part, ToolCall | ToolResult)}
        calls = [ToolCall(f"call_{number}", *call) for number, call in enumerate(outcome.calls, len(known) + 1)]
        turn = Turn("assistant", ["".join(outcome.text), *calls])
        message = next(_assistant(turn, _plain_arguments(model)))
        return _segment(message, orjson.dumps(message))

    def decoder(self, prompt: Prompt, writer: EventWriter) -> Decoder:
        return ChatDecoder(prompt, writer)


def _plain_arguments(model: LoadedModel) -> bool:
    return model.renderer.startswith("qwen3-coder")


def num_predict(prompt: Prompt, model: LoadedModel) -> int:
    """The most tokens to generate. At the window's end Ollama stops by itself, as shifting is off. 0 would mean no limit to it."""
    if prompt.max_tokens == 0:
        return 1
    return min(prompt.max_tokens or model.max_output, model.context)


def _settings(prompt: Prompt, model: LoadedModel, limit: int) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "model": model.name,
        "truncate": False,
        "shift": False,
        "keep_alive": model.keep_alive,
        "options": {**runner_options(model), "num_predict": limit, **prompt.sampling},
    }
    if model.thinking:
        settings["think"] = _think(prompt, model)  # left out, Ollama lets such a model think
    if prompt.format is not None:
        settings["format"] = prompt.format
    return settings


def runner_options(model: LoadedModel) -> dict[str, int]:
    """The options with which the model is loaded; a request with others makes Ollama load it again."""
    return {} if model.num_ctx is None else {"num_ctx": model.num_ctx}


def _think(prompt: Prompt, model: LoadedModel) -> bool | str:
    if model.family in LEVELLED_FAMILIES:  # these reason always; only how much can be chosen
        return THINK_LEVELS[prompt.effort or "medium"] if prompt.think else "low"
    return prompt.think


def chat_messages(prompt: Prompt, *, plain_arguments: bool = False) -> Iterator[dict[str, Any]]:
    """The conversation as `messages` of `/api/chat`. `plain_arguments`: large numbers in calls are written out as text."""
    if prompt.system:
        yield {"role": "system", "content": prompt.system}
    demand = _demand(prompt)
    for number, turn in enumerate(prompt.turns, 1):
        if turn.role == "assistant":
            yield from _assistant(turn, plain_arguments)
        else:
            yield from _user(turn, demand if number == len(prompt.turns) else "")


def _demand(prompt: Prompt) -> str:
    choice = prompt.tool_choice
    if choice.kind == "tool":
        return reminder(f"Answer with a call of the tool {choice.name}, and nothing else.")
    if choice.kind == "any" and prompt.tools:
        return reminder("Answer with a call of one of your tools, and nothing else.")
    return ""


def _user(turn: Turn, demand: str) -> Iterator[dict[str, Any]]:
    results = [part for part in turn.parts if isinstance(part, ToolResult)]
    for result in results:
        yield _with_images(
            {"role": "tool", "content": result.text, "tool_name": result.name, "tool_call_id": result.id}, result.images
        )
    texts = [part for part in turn.parts if isinstance(part, str)]
    images = [part for part in turn.parts if isinstance(part, Image)]
    if demand:
        texts.append(demand)
    if texts or images or not results:
        yield _with_images({"role": "user", "content": "\n\n".join(texts)}, images)


def _with_images(message: dict[str, Any], images: list[Image]) -> dict[str, Any]:
    return {**message, "images": [image.data for image in images]} if images else message


def _assistant(turn: Turn, plain_arguments: bool) -> Iterator[dict[str, Any]]:
    """One message, or several where text follows a call: within one message Ollama puts all text before all calls."""
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    for part in turn.parts:
        if isinstance(part, ToolCall):
            message.setdefault("tool_calls", []).append(_call(part, plain_arguments))
            continue
        if "tool_calls" in message:
            yield message
            message = {"role": "assistant", "content": ""}
        if isinstance(part, Thinking):
            message["thinking"] = message.get("thinking", "") + part.text
        elif isinstance(part, str):
            message["content"] += part
    yield message


def _call(call: ToolCall, plain_arguments: bool) -> dict[str, Any]:
    arguments = {name: _plain(value) for name, value in call.input.items()} if plain_arguments else call.input
    return {"id": call.id, "function": {"name": call.name, "arguments": arguments}}


def _plain(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return orjson.dumps(value).decode() if is_number and abs(value) >= PLAIN_NUMBERS_BELOW else value


def _segments(messages: list[dict[str, Any]], rendered: list[bytes], tools: list[bytes]) -> Iterator[Segment]:
    """In the order of most templates: system, tools, conversation."""
    pieces = [_segment(message, data) for message, data in zip(messages, rendered, strict=True)]
    lead = 1 if messages and messages[0]["role"] == "system" else 0
    yield from pieces[:lead]
    yield from (Segment(tool, len(tool)) for tool in tools)
    yield from pieces[lead:]


def _segment(message: dict[str, Any], data: bytes) -> Segment:
    images = message.get("images", ())
    size = len(data) - sum(len(image) for image in images) + IMAGE_SIZE * len(images)
    key = hashlib.blake2b(data, digest_size=16).digest() if len(data) > HASHED_ABOVE else data
    return Segment(key, size)
