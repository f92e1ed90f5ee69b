"""Values out of the market's rows, which come as numbers, as texts of numbers, with line ends, or not at all (vast facts §0.6 and §1.5)."""

from __future__ import annotations

import math
from typing import Any


def number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def whole(value: Any) -> int | None:
    """A whole number, large ids exactly; None for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit() and len(value) < 40:
        return int(value)
    found = number(value)
    return int(found) if found is not None and found.is_integer() else None


def rounded(value: Any) -> int | None:
    """A number, its fraction cut off."""
    found = number(value)
    return int(found) if found is not None else None


def text(value: Any) -> str | None:
    """A text without the blanks around it; None for an empty one and for anything else."""
    return (value.strip() or None) if isinstance(value, str) else None


def flag(value: Any, default: bool = False) -> bool:
    """A truth, also one written out; `default` when nothing is said."""
    if isinstance(value, str):
        return value.strip().lower() in ("true", "1", "yes")
    return default if value is None else bool(value)


def port(value: Any) -> int | None:
    found = whole(value)
    return found if found is not None and 0 < found < 65_536 else None
