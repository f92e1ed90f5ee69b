"""What an Ollama server says of the models it has, as plain rows. Pure: whoever can reach the server asks it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_BILLIONS = {"K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3}


def full_name(model: str) -> str:
    """With its tag, as Ollama lists it; without one it means `latest`."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def same_model(one: str, other: str) -> bool:
    """Whether two names mean one model: the tag given or not, in whatever case."""
    return full_name(one).casefold() == full_name(other).casefold()


def row(entry: Mapping[str, Any], shown: Mapping[str, Any], running: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One model, from its entry of `/api/tags`, its `/api/show` and the entries of `/api/ps`.

    `{name, size, parameters, chat, tools, max_context, loaded_context, loaded_size, loaded_vram}`: sizes in bytes, parameters in
    billions, windows in tokens. What is not said is None; the last three are None unless it is loaded under this very name.
    """
    name = str(entry.get("name"))
    loaded = next((one for one in running if one.get("name") == name), {})
    return {
        "name": name,
        "size": int(entry.get("size") or 0),
        "parameters": billions(str((entry.get("details") or {}).get("parameter_size") or "")),
        "chat": can_chat(shown),
        "tools": can_call_tools(shown),
        "max_context": longest_context(shown),
        "loaded_context": loaded.get("context_length"),
        "loaded_size": loaded.get("size") if loaded else None,
        "loaded_vram": loaded.get("size_vram") if loaded else None,
    }


def can_chat(shown: Mapping[str, Any]) -> bool:
    """Whether it writes answers at all. A server before 0.6.4 does not say; a model that only embeds has no template."""
    capabilities = shown.get("capabilities")
    return "completion" in capabilities if capabilities is not None else bool(shown.get("template"))


def can_call_tools(shown: Mapping[str, Any]) -> bool:
    """Servers before 0.6.4 have no list of what a model can do; their templates show it."""
    capabilities = shown.get("capabilities")
    return "tools" in capabilities if capabilities is not None else ".Tools" in str(shown.get("template"))


def longest_context(shown: Mapping[str, Any]) -> int | None:
    """The window the model was trained for, in tokens."""
    lengths = [value for key, value in (shown.get("model_info") or {}).items() if key.endswith(".context_length")]
    return int(lengths[0]) if lengths else None


def billions(text: str) -> float | None:
    """`30.5B` as 30.5, `500M` as 0.5."""
    try:
        return float(text[:-1]) * _BILLIONS[text[-1:].upper()]
    except (ValueError, KeyError):
        return None
