"""The models of the Ollama server this node uses: which are there, what they can do."""

from __future__ import annotations

from typing import Any

from llmhost.core.errors import Unavailable
from llmhost.supervisor.loopback import request

ANSWER_S = 10.0


def installed(address: str) -> list[dict[str, Any]]:
    """`{name, size, parameters, tools, max_context, loaded_context}` of each; sizes in bytes, parameters in billions, windows in tokens."""
    loaded = {
        entry.get("name"): entry.get("context_length") for entry in _ask(address, "GET", "/api/ps").get("models") or []
    }
    return [_facts(address, entry, loaded) for entry in _ask(address, "GET", "/api/tags").get("models") or []]


def is_there(address: str, model: str) -> bool:
    """Whether the server has the model, its tag given or not."""
    names = [str(entry.get("name")) for entry in _ask(address, "GET", "/api/tags").get("models") or []]
    return any(full_name(name).casefold() == full_name(model).casefold() for name in names)


def full_name(model: str) -> str:
    """With its tag, as Ollama lists it."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def _facts(address: str, entry: dict[str, Any], loaded: dict[Any, Any]) -> dict[str, Any]:
    name = str(entry.get("name"))
    shown = _ask(address, "POST", "/api/show", {"model": name})
    capabilities = shown.get("capabilities")
    # Servers before 0.6.4 have no list; their templates show it.
    tools = "tools" in capabilities if capabilities is not None else ".Tools" in str(shown.get("template"))
    lengths = [value for key, value in (shown.get("model_info") or {}).items() if key.endswith(".context_length")]
    return {
        "name": name,
        "size": int(entry.get("size") or 0),
        "parameters": _billions(str((entry.get("details") or {}).get("parameter_size") or "")),
        "tools": tools,
        "max_context": int(lengths[0]) if lengths else None,
        "loaded_context": loaded.get(name),
    }


def _billions(text: str) -> float | None:
    units = {"K": 1e-6, "M": 1e-3, "B": 1.0, "T": 1e3}
    try:
        return float(text[:-1]) * units[text[-1:].upper()]
    except (ValueError, KeyError):
        return None


def _ask(address: str, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    try:
        answer = request(address, method, path, body=body, timeout_s=ANSWER_S)
    except OSError as error:
        raise unavailable(address, error.strerror or str(error)) from error
    if answer.status != 200 or not isinstance(answer.data, dict):
        raise unavailable(address, f"status {answer.status} on {path}")
    return answer.data


def unavailable(address: str, why: str) -> Unavailable:
    return Unavailable(
        f"Ollama at {address} on the node does not answer ({why}).",
        hint="See what it says: llmhost logs --source ollama",
        code="ollama_unavailable",
    )
