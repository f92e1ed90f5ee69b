"""A request that Ollama refuses only once it holds the model's slot, yet without its engine: it tells a hanging Ollama from a busy one.

It is a prompt that does not fit into the window, with `truncate` off. Ollama takes the slot, has the prompt's tokens counted, which the
engine's process does beside its work, and answers 400. What the engine holds in its cache stays.
"""

from __future__ import annotations

import re
from typing import Any

from llmhost.backends.ollama.codec import LoadedModel

KNOCK_PATH = "/api/generate"
WORD = " a"  # one token to every tokenizer
MARGIN = 64
REFUSES_SINCE = (0, 13)  # older ones cut such a prompt down and read it, which takes long and costs the cache
VERSION = re.compile(r"(\d+)\.(\d+)")


def can_be_knocked(model: LoadedModel) -> bool:
    """False for what would read the prompt: an old Ollama. One that does not tell its version is taken for a new one.

    False also for a model that is no GGUF: those are served without the slot that can be lost.
    """
    version = VERSION.match(model.version)
    is_old = version is not None and (int(version[1]), int(version[2])) < REFUSES_SINCE
    return not is_old and model.format in ("", "gguf")


def knock(model: LoadedModel) -> dict[str, Any]:
    """The body for `POST KNOCK_PATH`; with the options the model was loaded with, or it would be loaded again."""
    options: dict[str, Any] = {"num_predict": 1}
    if model.num_ctx is not None:
        options["num_ctx"] = model.num_ctx
    return {
        "model": model.name,
        "prompt": WORD * (model.context + model.context // 4 + MARGIN),
        "raw": True,
        "truncate": False,
        "shift": False,
        "stream": False,
        "keep_alive": model.keep_alive,
        "options": options,
    }
