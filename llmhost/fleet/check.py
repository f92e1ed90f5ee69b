"""One line of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "failed"]


@dataclass(frozen=True, slots=True)
class Check:
    """What was looked at and how it is. `command` is what to type next ("" = nothing)."""

    name: str
    state: State
    detail: str
    command: str = ""


def ok(name: str, detail: str, command: str = "") -> Check:
    return Check(name, "ok", detail, command)


def warn(name: str, detail: str, command: str = "") -> Check:
    return Check(name, "warn", detail, command)


def failed(name: str, detail: str, command: str = "") -> Check:
    return Check(name, "failed", detail, command)
