"""A request as the prompt a model would see: what tells two prompts apart, its tokens, and how much of it is not new.

There is no tokenizer here: a token is four bytes of the prompt's text, rounded up, and an image or document a fixed
number of them.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from llmhost.backends.rehearsal.conversation import blocks_of
from llmhost.messages.system import system_text

BYTES_PER_TOKEN = 4
ATTACHMENT_BYTES = 1_600 * BYTES_PER_TOKEN  # the vendor's documented ceiling for one image
MARKS_KEPT = 20_000  # a Claude Code conversation has a few hundred parts: some dozens of conversations, about 3 MB


@dataclass(frozen=True, slots=True)
class Prompt:
    """`marks` holds for each part of the prompt the digest and the tokens of everything up to its end."""

    marks: tuple[tuple[bytes, int], ...]

    @property
    def tokens(self) -> int:
        return self.marks[-1][1]

    @property
    def digest(self) -> str:
        """32 hex digits; equal only for equal prompts."""
        return self.marks[-1][0].hex()


def render(body: dict[str, Any]) -> Prompt:
    """The prompt of a checked request.

    Order: system, tools, messages, so that a longer conversation extends a shorter one.
    """
    marks: list[tuple[bytes, int]] = []
    digest, size = b"", 0
    for part, weight in _parts(body):
        digest = hashlib.blake2b(digest + part, digest_size=16).digest()
        size += weight
        marks.append((digest, -(-size // BYTES_PER_TOKEN)))
    return Prompt(tuple(marks))


class PrefixMemory:
    """Remembers the beginnings of recent prompts, as an engine's KV cache would."""

    def __init__(self) -> None:
        self._marks: OrderedDict[bytes, None] = OrderedDict()

    def reuse(self, prompt: Prompt) -> int:
        """Tokens of the longest beginning seen before; the prompt is remembered.

        Never all of them: an engine evaluates at least one.
        """
        reused = 0
        known = True
        for digest, tokens in prompt.marks:
            known = known and digest in self._marks
            if known:
                reused = tokens
            self._marks[digest] = None
            self._marks.move_to_end(digest)
        while len(self._marks) > MARKS_KEPT:
            self._marks.popitem(last=False)
        return min(reused, prompt.tokens - 1)


def _parts(body: dict[str, Any]) -> Iterator[tuple[bytes, int]]:
    yield _text("system", system_text(body.get("system")))
    for tool in body.get("tools") or ():
        # A deferred tool is shown where a tool_reference names it, not at the top: it would break the prefix when it
        # arrives.
        if not tool.get("defer_loading"):
            yield _json("tool", _without(tool, "cache_control"))
    for message in body["messages"]:
        for block in blocks_of(message):
            yield from _block(message["role"], block)


def _block(role: str, block: dict[str, Any]) -> Iterator[tuple[bytes, int]]:
    kind = block.get("type")
    if kind == "text":
        yield _text(role, block["text"])
    elif kind == "tool_use":
        yield _json(role, {"call": block["name"], "input": block.get("input")})
    elif kind == "tool_result":
        yield _json(role, {"error": bool(block.get("is_error"))})
        for part in blocks_of(block):
            yield from _block("result", part)
    elif kind in ("image", "document"):
        yield _json(role, _without(block, "cache_control"))[0], ATTACHMENT_BYTES
    else:
        yield _json(role, _without(_without(block, "cache_control"), "signature"))


def _text(role: str, text: str) -> tuple[bytes, int]:
    part = f"{role}\0{text}\0".encode("utf-8", "surrogatepass")
    return part, len(part)


def _json(role: str, value: Any) -> tuple[bytes, int]:
    part = role.encode() + b"\0" + orjson.dumps(value, option=orjson.OPT_SORT_KEYS) + b"\0"
    return part, len(part)


def _without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != name}
