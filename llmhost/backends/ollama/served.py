"""What the seam is told of a model and of an answer's end."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from llmhost.backends.base import ModelInfo
from llmhost.backends.ollama.codec import LoadedModel, Outcome


def stop_reason(outcome: Outcome, num_predict: int, *, saw_tool: bool) -> str:
    """Why the answer ended. Ollama says `length` both at the limit we set and at the window's end; only the first has that many tokens."""
    if outcome.cut == "stop_sequence":
        return "stop_sequence"
    final = outcome.final or {}
    if final.get("done_reason") != "length":
        return "tool_use" if saw_tool else "end_turn"
    return "max_tokens" if int(final.get("eval_count") or 0) >= num_predict else "model_context_window_exceeded"


@lru_cache(maxsize=8)  # asked for several times a request
def model_info(loaded: LoadedModel, codec: str) -> ModelInfo:
    """The model as the seam shows it."""
    return ModelInfo(
        id=loaded.name,
        digest=answer_digest(loaded, codec),
        context=loaded.context,
        max_output=loaded.max_output,
        vision=loaded.vision,
        tools=loaded.tools,
        thinking=loaded.thinking,
        created_at=loaded.created_at,
    )


def answer_digest(model: LoadedModel, codec: str) -> str:
    """Changes whenever the same request may be answered differently: other weights, another Ollama, another way of asking."""
    return hashlib.sha256("\n".join((model.digest, model.version, codec)).encode()).hexdigest()
