"""The models of the Ollama server this node uses: which are there, what they can do; and how one goes."""

from __future__ import annotations

from typing import Any

from llmhost.core.errors import LlmhostError, Unavailable
from llmhost.core.ollama_models import full_name as full_name
from llmhost.core.ollama_models import row, same_model
from llmhost.supervisor.loopback import request

ANSWER_S = 10.0
# Files of 20 GB are unlinked at once; a slow disk takes longer.
DELETE_S = 60.0


def installed(address: str) -> list[dict[str, Any]]:
    """A row of `llmhost.core.ollama_models.row` for each model. Raises Unavailable."""
    running = _ask(address, "GET", "/api/ps").get("models") or []
    return [
        row(entry, _ask(address, "POST", "/api/show", {"model": str(entry.get("name"))}), running)
        for entry in _listed(address)
    ]


def is_there(address: str, model: str) -> bool:
    """Whether the server has the model, its tag given or not."""
    return _entry(address, model) is not None


def remove(address: str, model: str) -> dict[str, Any]:
    """Delete a model from the server's disk. → `{removed, freed}`: whether it was there, and the bytes it had. Raises Unavailable,

    LlmhostError (`rm_failed`).
    """
    entry = _entry(address, model)
    if entry is None:
        return {"removed": False, "freed": 0}
    name = str(entry["name"])
    try:
        # Its weights would stay in memory until their time is up, which with us is never.
        request(address, "POST", "/api/generate", body={"model": name, "keep_alive": 0}, timeout_s=ANSWER_S)
        answer = request(address, "DELETE", "/api/delete", body={"model": name}, timeout_s=DELETE_S)
    except OSError as error:
        raise unavailable(address, error.strerror or str(error)) from error
    if answer.status not in (200, 404):
        said = answer.data.get("error") if isinstance(answer.data, dict) else None
        raise LlmhostError(
            f"the node's Ollama does not delete {name!r}: {said or f'status {answer.status}'}.",
            hint="See what it says: llmhost logs --source ollama",
            code="rm_failed",
        )
    return {"removed": answer.status == 200, "freed": int(entry.get("size") or 0)}


def in_use(model: str) -> LlmhostError:
    """What the model that the node serves is not deleted with."""
    return LlmhostError(
        f"{model!r} is the model that the node serves.",
        hint="Serve another one first: llmhost up --model OTHER",
        code="model_in_use",
    )


def _entry(address: str, model: str) -> dict[str, Any] | None:
    return next((entry for entry in _listed(address) if same_model(str(entry.get("name")), model)), None)


def _listed(address: str) -> list[dict[str, Any]]:
    return _ask(address, "GET", "/api/tags").get("models") or []


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
