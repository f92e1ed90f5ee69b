"""How large the models are that people serve: their download, their window, and the memory that a token of the window takes.

The sizes are those of Ollama's library for the tag (4 bits unless the tag says otherwise), layers and heads those of the models' own
configurations. What is not here is estimated from its name, and says so; what cannot be is unknown, never invented.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

# Bytes of one element of an 8-bit KV cache: blocks of 32 with a scale of 2 bytes (backend facts §4.1).
Q8_BYTES = 34 / 32
MIB = 1024 * 1024
# CUDA, the engine's buffers and its batches: between 1 and 2 GiB (backend facts §4.1, assumed there).
OVERHEAD_MB = 1_900
# GB for each 1e9 parameters, as the library's own files have it: 18.6 GB of 30.5e9 at 4 bits, and so on.
_GB_PER_BILLION = {
    "q4_k_m": 0.61,
    "q4_0": 0.57,
    "q4_k_s": 0.58,
    "q5_k_m": 0.71,
    "q6_k": 0.82,
    "q8_0": 1.06,
    "fp16": 2.0,
    "bf16": 2.0,
}
_USUAL = "q4_k_m"
_SIZE = re.compile(r"(?:(\d+)x)?(\d+(?:\.\d+)?)b")


@dataclass(frozen=True, slots=True)
class ModelSize:
    """`weights_gb` is the download in 1e9 bytes, and what the weights take in memory; `max_context` the model's own window in tokens.

    `kv_bytes_per_token` with an 8-bit cache. None = not known. `estimated` = the weights were told from the name. `coder` = made to write
    code.
    """

    name: str
    weights_gb: float | None = None
    kv_bytes_per_token: float | None = None
    max_context: int | None = None
    estimated: bool = False
    coder: bool = False
    source: str = ""


def kv_bytes(layers: int, kv_heads: int, head: int) -> float:
    """Bytes a token takes in an 8-bit KV cache: keys and values of every layer (backend facts §4.1)."""
    return 2 * layers * kv_heads * head * Q8_BYTES


def facts(name: str) -> ModelSize:
    """What is known of a model by its Ollama name; a tag that is left out is the library's `latest`."""
    full = _full(name)
    known = _KNOWN.get(full)
    if known is not None:
        return replace(known, name=name)
    return _estimated(name, full)


def known() -> tuple[ModelSize, ...]:
    """Everything in the table, smallest first."""
    return tuple(sorted(_KNOWN.values(), key=lambda size: (size.weights_gb or 0.0, size.name)))


def needs_mb(size: ModelSize, context: int) -> int | None:
    """MiB of graphics memory with a window of `context` tokens; None when the weights are unknown.

    A window whose memory is not known counts nothing, so the number is a lower bound then.
    """
    if size.weights_gb is None:
        return None
    window = (size.kv_bytes_per_token or 0.0) * context
    return round((size.weights_gb * 1e9 + window) / MIB) + OVERHEAD_MB


def _full(name: str) -> str:
    bare = name.strip().lower().removeprefix("library/")
    family, _, tag = bare.partition(":")
    return f"{family}:{_LATEST[family]}" if tag in ("", "latest") and family in _LATEST else bare


def _estimated(name: str, full: str) -> ModelSize:
    """Another packing of a model that is known keeps its window; of others only the number of parameters speaks."""
    family, _, tag = full.partition(":")
    found = _SIZE.search(tag) or _SIZE.search(family)
    if found is None:
        return ModelSize(name)
    packing = next((each for each in _GB_PER_BILLION if each in tag), _USUAL)
    relative = _KNOWN.get(f"{family}:{found[0]}", ModelSize(name))
    base = relative.weights_gb
    billions = float(found[1] or 1) * float(found[2]) if base is None else base / _GB_PER_BILLION[_USUAL]
    return replace(
        relative,
        name=name,
        weights_gb=round(billions * _GB_PER_BILLION[packing], 2),
        estimated=True,
        source=f"estimated from the name: {billions:.3g} billion parameters, {packing}",
    )


_LIBRARY = "Ollama's library"
# name: GB, (layers, KV heads, head size) or None, window, whether it is a coder
_TABLE: tuple[tuple[str, float, tuple[int, int, int] | None, int, bool], ...] = (
    ("qwen3-coder:30b", 18.6, (48, 4, 128), 262_144, True),  # backend facts §4.1
    ("qwen3-coder:480b", 290.0, (62, 8, 128), 262_144, True),  # 62 layers, 96 and 8 heads: the model card
    ("qwen2.5-coder:0.5b", 0.398, (24, 2, 64), 32_768, True),
    ("qwen2.5-coder:1.5b", 0.986, (28, 2, 128), 32_768, True),
    ("qwen2.5-coder:3b", 1.9, (36, 2, 128), 32_768, True),
    ("qwen2.5-coder:7b", 4.7, (28, 4, 128), 32_768, True),
    ("qwen2.5-coder:14b", 9.0, (48, 8, 128), 32_768, True),
    ("qwen2.5-coder:32b", 20.0, (64, 8, 128), 32_768, True),
    ("devstral:24b", 14.0, (40, 8, 128), 131_072, True),  # Mistral Small 3.1's architecture
    ("codestral:22b", 13.0, (56, 8, 128), 32_768, True),
    # every second layer sees 128 tokens only, which is not counted: so this is the most it takes
    ("gpt-oss:20b", 14.0, (24, 8, 64), 131_072, False),
    ("gpt-oss:120b", 65.0, (36, 8, 64), 131_072, False),
    ("qwen3:0.6b", 0.523, (28, 8, 128), 40_960, False),
    ("qwen3:1.7b", 1.4, (28, 8, 128), 40_960, False),
    ("qwen3:4b", 2.5, (36, 8, 128), 262_144, False),
    ("qwen3:8b", 5.2, (36, 8, 128), 40_960, False),
    ("qwen3:14b", 9.3, (40, 8, 128), 40_960, False),
    ("qwen3:30b", 18.6, (48, 4, 128), 262_144, False),
    ("qwen3:32b", 20.0, (64, 8, 128), 40_960, False),
    ("qwen3:235b", 142.0, (94, 4, 128), 262_144, False),
    ("llama3.1:8b", 4.9, (32, 8, 128), 131_072, False),
    ("llama3.1:70b", 43.0, (80, 8, 128), 131_072, False),
    ("llama3.3:70b", 43.0, (80, 8, 128), 131_072, False),
    # keys and values are compressed together there, and how the engine keeps them differs between its releases
    ("deepseek-coder-v2:16b", 8.9, None, 163_840, True),
)
_LATEST = {
    "qwen3-coder": "30b",
    "qwen2.5-coder": "7b",
    "devstral": "24b",
    "codestral": "22b",
    "gpt-oss": "20b",
    "qwen3": "8b",
    "llama3.1": "8b",
    "llama3.3": "70b",
    "deepseek-coder-v2": "16b",
}
_KNOWN = {
    name: ModelSize(name, gb, kv_bytes(*shape) if shape else None, context, coder=coder, source=_LIBRARY)
    for name, gb, shape, context, coder in _TABLE
}
