"""One answer of the market, as it came over the wire."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, headers by lower-case name, and the body as it came."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def data(self) -> Any:
        """The JSON of the body; None for what is none, as HTML or half an answer."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def fields(self) -> dict[str, Any] | None:
        """The JSON object of the body, or None."""
        data = self.data
        return data if isinstance(data, dict) else None

    @property
    def retry_after_s(self) -> float | None:
        """What it says to wait, in the header or the body, in seconds (vast facts §1.5); None = nothing, or nothing usable."""
        stated = self.headers.get("retry-after")
        return seconds(stated if stated is not None else (self.fields or {}).get("retry_after"))


def seconds(value: Any) -> float | None:
    """A time to wait, from a number or a text of one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        wait = float(value)
    except ValueError:
        return None
    return max(0.0, wait) if math.isfinite(wait) else None
