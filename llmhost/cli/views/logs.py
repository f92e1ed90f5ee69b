"""A log line for people. What our own processes write is JSON; Ollama's lines stay as they are."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

_SHOWN_APART = ("time", "level", "logger", "message", "event", "trace")


def line_text(line: dict[str, Any]) -> str:
    """`12:00:01 gateway  message key=value`."""
    place = line["source"] if line["node"] is None else f"{line['source']} {line['node']}"
    said = _parsed(line["text"])
    if said is None:
        return f"{place:<10} {line['text']}"
    level = str(said.get("level", "info"))
    words = [str(said.get("message") or said.get("event") or "")]
    words += [f"{key}={value}" for key, value in said.items() if key not in _SHOWN_APART and value not in (None, "")]
    mark = "" if level in ("info", "debug") else f"{level.upper()} "
    trace = f"\n{said['trace']}" if said.get("trace") else ""
    return f"{_clock(line['time'])} {place:<10} {mark}{' '.join(words)}{trace}"


def _parsed(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        said = json.loads(text)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _clock(time: str | None) -> str:
    try:
        return f"{datetime.fromisoformat(time).astimezone():%H:%M:%S}" if time else "        "
    except ValueError:
        return "        "
