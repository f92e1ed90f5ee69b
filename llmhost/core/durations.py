"""Lengths of time as users write them: `90s`, `30m`, `4h`, `2d`, `1.5h`, and `none` or `off` for no end."""

from __future__ import annotations

import re

from llmhost.core.errors import UsageError

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NO_END = ("none", "off")
_WRITTEN = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd])")


def seconds(text: str) -> float | None:
    """The length in seconds; None for `none` and `off`. Raises UsageError (`bad_duration`) for anything else."""
    written = text.strip().lower()
    if written in _NO_END:
        return None
    found = _WRITTEN.fullmatch(written)
    if found is None:
        raise UsageError(
            f"{text!r} is no length of time.",
            hint="Write it as 90s, 30m, 4h, 2d or 1.5h; none (or off) for no end.",
            code="bad_duration",
        )
    return float(found[1]) * _UNITS[found[2]]


def words(length: float | None) -> str:
    """The length as `seconds` reads it, in the largest unit that leaves no remainder: `4h`, `90s`; None is `none`."""
    if length is None:
        return _NO_END[0]
    for unit in ("d", "h", "m"):
        if length and length % _UNITS[unit] == 0:
            return f"{length / _UNITS[unit]:.0f}{unit}"
    return f"{length:g}s"
