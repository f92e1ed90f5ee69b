"""The exact cache's key: two requests have the same one only if the same answer is right for both.

Left out because they do not change the answer: `metadata`, `cache_control`, `stream`, `safeguards`, the billing block, the trailing
token counter, the spelling of tool ids (renumbered by first appearance), signatures, key order, and a string against one text block.
Text is compared byte for byte: composed and decomposed letters are different file names, so Unicode is not normalised.
Everything else stays in, what this version does not know included: a cache may miss, it may not answer another question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import orjson

from llmhost.messages.system import system_text

VERSION = 1
IGNORED = frozenset({"metadata", "cache_control", "stream", "safeguards", "model", "messages", "system", "tools"})


def exact_key(body: dict[str, Any], served: str, tenant: bytes) -> str:
    """32 hex digits of SHA-256, keyed by `tenant` so that two tenants never share or guess each other's keys.

    SHA-256 because processors have instructions for it: on 107 KB it took 69 µs, BLAKE2b 127 (same run).

    `served` identifies what would answer: model digest, quantisation, codec version.
    """
    data = orjson.dumps(canonical(body, served), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(tenant + data).hexdigest()[:32]


def raw_key(raw: bytes, tenant: bytes) -> str:
    """The same for requests that are alike to the byte: enough to join a client's retry where no answer is kept."""
    return hashlib.sha256(tenant + raw).hexdigest()[:32]


def canonical(body: dict[str, Any], served: str) -> dict[str, Any]:
    """The request reduced to what decides the answer."""
    ids = _Renumber()
    rest = {name: value for name, value in body.items() if name not in IGNORED and value is not None}
    return {
        "version": VERSION,
        "served": served,
        "system": system_text(body.get("system")),
        "tools": [_without(tool, "cache_control") for tool in body.get("tools") or ()],
        "messages": [[message["role"], _blocks(message["content"], ids)] for message in body["messages"]],
        "rest": rest,
    }


class _Renumber:
    """Maps tool ids to t0, t1, … in the order in which they appear."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def __call__(self, id: str) -> str:
        return self._seen.setdefault(id, f"t{len(self._seen)}")


def _blocks(content: Any, ids: _Renumber) -> list[Any]:
    if isinstance(content, str):
        return [content]
    return [_block(block, ids) for block in content]


def _block(block: dict[str, Any], ids: _Renumber) -> Any:
    kind = block["type"]
    if kind == "text" and len(block) - ("cache_control" in block) == 2:
        return block["text"]
    rewrite = _REWRITES.get(kind)
    kept = _without(block, "cache_control")
    return rewrite(kept, ids) if rewrite else kept


def _tool_use(block: dict[str, Any], ids: _Renumber) -> dict[str, Any]:
    return {**block, "id": ids(block["id"])}


def _tool_result(block: dict[str, Any], ids: _Renumber) -> dict[str, Any]:
    content = block.get("content")
    return {
        **block,
        "tool_use_id": ids(block["tool_use_id"]),
        "content": [] if content is None else _blocks(content, ids),
        "is_error": bool(block.get("is_error")),
    }


def _thinking(block: dict[str, Any], _: _Renumber) -> dict[str, Any]:
    return _without(block, "signature")


_REWRITES: dict[str, Callable[[dict[str, Any], _Renumber], dict[str, Any]]] = {
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "thinking": _thinking,
}


def _without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: item for key, item in value.items() if key != name} if name in value else value
