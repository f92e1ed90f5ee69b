"""What a command hands to the renderer: data for people and for scripts, never printed text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Result:
    """The outcome of one command.

    `data` is the JSON envelope's `data`; `warnings` are whole sentences; `errors` are elements as
    `LlmhostError.as_dict()` makes them (`{"code", "message", "hint"}`), and any makes `ok` false; `exit_code` is one of
    the contract's.
    """

    data: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    exit_code: int = 0
