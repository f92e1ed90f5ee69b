"""Ollama's errors as errors of the Messages API."""

from __future__ import annotations

import re

from llmhost.messages.errors import ApiError, invalid, model_unknown, overloaded, prompt_too_long, unavailable

BUSY_RETRY_S = 5.0
# llama.cpp's server, inside Ollama from 0.30 on, names the numbers.
SIZES = re.compile(r"request \((\d+) tokens\) exceeds the available context size \((\d+) tokens\)")
TOO_LONG = (
    "input length exceeds the context length",
    "exceeds the available context size",
    "prompt is longer than the context length",
)
BAD_FORMAT = ("invalid JSON schema in format", "invalid format:")


def api_error(status: int, message: str, *, model: str, tokens: int, window: int) -> ApiError:
    """What an error status before the first byte means. `tokens` is our estimate of the prompt: Ollama 0.24 names no numbers."""
    sizes = SIZES.search(message)
    if sizes:
        return prompt_too_long(int(sizes[1]), int(sizes[2]))
    if any(wording in message for wording in TOO_LONG):
        return prompt_too_long(tokens, window)
    if any(wording in message for wording in BAD_FORMAT):
        return invalid(f"output_config.format: {message}")
    if status == 404:
        return model_unknown(model, None)
    if status == 503:
        return overloaded(f"Ollama is busy: {message}", BUSY_RETRY_S)
    if status == 400:
        return invalid(f"Ollama refused the request: {message}")
    if "unexpectedly stopped" in message:
        return unavailable(f"Ollama's engine stopped: {message}")
    return ApiError(502, f"Ollama answered {status}: {message}")


def unfinished() -> ApiError:
    """The stream ended without its last line. Ollama does that after more than 30 equal tokens in a row, and when it is ended itself."""
    return ApiError(
        502,
        "Ollama broke the answer off without finishing it (it does so when a model repeats one token over and over)",
    )


def gone(message: str) -> ApiError:
    """Nobody answers at Ollama's address."""
    return unavailable(f"Ollama is not reachable: {message}")
