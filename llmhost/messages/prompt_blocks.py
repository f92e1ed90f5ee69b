"""Content blocks as text and images."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

from llmhost.messages.prompt import Image, PdfReader
from llmhost.messages.prompt_tools import Functions

NO_VISION = "[image omitted: model has no vision]"
NOT_INLINE = "[image omitted: only images sent inside the request can be shown]"
# Reasoning that only the vendor can read, and marks that mean nothing to another model.
SILENT = frozenset({"redacted_thinking", "thinking", "fallback"})

Piece = str | Image
BETWEEN = "\n\n"


class BlockReader:
    """Reads content for one request. `unread` collects the PDFs whose text is not at hand."""

    def __init__(self, functions: Functions, read_pdf: PdfReader, *, vision: bool) -> None:
        self._functions = functions
        self._read_pdf = read_pdf
        self._vision = vision
        self.unread: list[str] = []
        self._readers: dict[str, Callable[[dict[str, Any]], Piece]] = {
            "text": _text,
            "image": self._image,
            "document": self._document,
            "search_result": _search_result,
            "tool_addition": self._tool_addition,
            "tool_removal": self._tool_removal,
        }

    def pieces(self, content: Any) -> list[Piece]:
        """The content as texts and images, in order; a string is one text block, empty texts fall away, neighbouring texts are joined."""
        if isinstance(content, str):
            return [content] if content else []
        return joined(self._each(content), BETWEEN) if isinstance(content, list) else []

    def text(self, content: Any) -> str:
        """The content as one text, its images left out with a note."""
        return BETWEEN.join(piece if isinstance(piece, str) else NOT_INLINE for piece in self.pieces(content))

    def _each(self, blocks: list[Any]) -> Iterator[Piece]:
        """One piece a block; neighbouring tool references share one `<functions>` block."""
        for loads, group in groupby(blocks, _is_reference):
            if loads:
                yield self._functions.block(str(block.get("tool_name") or block.get("name")) for block in group)
            else:
                yield from map(self.piece, group)

    def piece(self, block: Any) -> Piece:
        """One block; "" when it has nothing to say."""
        if not isinstance(block, dict):
            return block if isinstance(block, str) else ""
        kind = block.get("type")
        if kind in SILENT:
            return ""
        return self._readers.get(str(kind), _unknown)(block)

    def _image(self, block: dict[str, Any]) -> Piece:
        source = _source(block)
        if not self._vision:
            return NO_VISION
        data, media_type = source.get("data"), source.get("media_type")
        return Image(str(media_type), data) if source.get("type") == "base64" and isinstance(data, str) else NOT_INLINE

    def _document(self, block: dict[str, Any]) -> str:
        title = block.get("title")
        name = f"document {title}" if isinstance(title, str) and title else "document"
        text = self._document_text(_source(block))
        return f"[{name}]\n{text}" if text else f"[{name} omitted: it cannot be read here]"

    def _document_text(self, source: dict[str, Any]) -> str:
        data, kind, media_type = source.get("data"), source.get("type"), source.get("media_type")
        if kind == "content":
            return self.text(source.get("content"))
        if not isinstance(data, str):
            return ""
        if kind == "text":
            return data
        if media_type == "application/pdf":
            return self._pdf(data)
        return _decoded(data) if str(media_type).startswith("text/") else ""

    def _pdf(self, data: str) -> str:
        text = self._read_pdf(data)
        if text is None:
            self.unread.append(data)
        return text or ""

    def _tool_addition(self, block: dict[str, Any]) -> str:
        name = self._changed_tool(block)
        return f"These tools can be used from now on:\n{self._functions.block([name])}" if name else ""

    def _tool_removal(self, block: dict[str, Any]) -> str:
        name = self._changed_tool(block)
        return f"The tool {name} cannot be used any more." if name else ""

    def _changed_tool(self, block: dict[str, Any]) -> str:
        tool = block.get("tool")
        if not isinstance(tool, dict):
            return ""
        definition = tool.get("definition")
        if isinstance(definition, dict):
            return self._functions.define(definition)
        name, server = tool.get("name"), tool.get("server_name")
        return self._functions.find(name, server if isinstance(server, str) else None) if isinstance(name, str) else ""


def joined(pieces: Iterator[Any], between: str) -> list[Any]:
    """The pieces without empty texts, neighbouring texts made one."""
    found: list[Any] = []
    for piece in pieces:
        if piece == "":
            continue
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += between + piece
        else:
            found.append(piece)
    return found


def _is_reference(block: Any) -> bool:
    return isinstance(block, dict) and block.get("type") == "tool_reference"


def _source(block: dict[str, Any]) -> dict[str, Any]:
    source = block.get("source")
    return source if isinstance(source, dict) else {}


def _text(block: dict[str, Any]) -> str:
    text = block.get("text")
    return text if isinstance(text, str) else ""


def _search_result(block: dict[str, Any]) -> str:
    content = block.get("content")
    texts = [_text(part) for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    return "\n".join(
        line for line in (block.get("title"), block.get("source"), *texts) if isinstance(line, str) and line
    )


def _unknown(block: dict[str, Any]) -> str:
    """A block of a later API: its text if it has one, else a note in its place."""
    for name in ("text", "content"):
        if isinstance(block.get(name), str):
            return str(block[name])
    return f"[{block.get('type')} omitted: not supported here]"


def _decoded(data: str) -> str:
    try:
        return base64.b64decode(data).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
