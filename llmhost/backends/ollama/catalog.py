"""Which model to serve, and what Ollama says of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

PREFERRED = "qwen3-coder:30b"
SIZE = re.compile(r"([\d.]+)\s*([KMBT]?)", re.IGNORECASE)
UNITS = {"": 1.0, "K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
EPOCH = "2026-01-01T00:00:00Z"


def full_name(name: str) -> str:
    """A model's name with its tag; without one Ollama means `latest`."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def is_same(one: str, other: str) -> bool:
    """Whether two names mean one model."""
    return full_name(one).casefold() == full_name(other).casefold()


def candidates(models: list[dict[str, Any]], wanted: str | None) -> list[str]:
    """The models of `/api/tags` to try, best first: the wanted one only; else qwen3-coder:30b, other coders, then the larger.

    A model that runs in Ollama's cloud is used only when it is asked for: it is not hosted here, and may cost.
    """
    if wanted is not None:
        return [name for name in map(_name, models) if full_name(name) == full_name(wanted)]
    sizes = {_name(model): parameters(model) for model in models if not is_remote(model)}
    return sorted(sizes, key=lambda name: (name != PREFERRED, "coder" not in name, -sizes[name], name))


def _name(model: dict[str, Any]) -> str:
    return str(model.get("name"))


def is_remote(model: dict[str, Any]) -> bool:
    """True for an entry that only stands for a model elsewhere."""
    return bool(model.get("remote_host") or model.get("remote_model")) or _name(model).endswith(("-cloud", ":cloud"))


def parameters(model: dict[str, Any]) -> float:
    """A model's number of parameters, from `details.parameter_size` such as `30.5B`; 0 when it is not said."""
    details = model.get("details")
    found = SIZE.match(str(details.get("parameter_size") or "")) if isinstance(details, dict) else None
    return float(found[1]) * UNITS[found[2].upper()] if found else 0.0


def capabilities(show: dict[str, Any]) -> frozenset[str]:
    """What `/api/show` says the model can do: completion, tools, vision, thinking, embedding, …"""
    return frozenset(str(item) for item in show.get("capabilities") or ())


def can_chat(show: dict[str, Any]) -> bool:
    """Whether it writes answers. A server before 0.6.4 does not say; a model that only embeds has no template."""
    return "completion" in capabilities(show) if "capabilities" in show else bool(show.get("template"))


def longest_context(show: dict[str, Any]) -> int | None:
    """The window the model was trained for, in tokens."""
    info = show.get("model_info") or {}
    named = f"{info.get('general.architecture')}.context_length"
    lengths = [value for key, value in info.items() if key.endswith(".context_length") and isinstance(value, int)]
    found = info.get(named, lengths[0] if len(lengths) == 1 else None)
    return found if isinstance(found, int) else None


def modelfile_line(show: dict[str, Any], name: str) -> str:
    """`renderer` or `parser`: a field of its own from some release on, before that a line of the Modelfile (0.24)."""
    field = show.get(name)
    if isinstance(field, str) and field:
        return field
    found = re.search(rf"^{name.upper()}\s+(\S+)", str(show.get("modelfile") or ""), re.MULTILINE)
    return found[1] if found else ""


def when(modified: Any) -> str:
    """Ollama's time (nanoseconds, any zone) as RFC 3339 in UTC."""
    try:
        return datetime.fromisoformat(str(modified)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except ValueError:
        return EPOCH
