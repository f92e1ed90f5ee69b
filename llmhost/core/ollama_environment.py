"""The settings of an `ollama serve` of ours, wherever it runs."""

from __future__ import annotations

from collections.abc import Mapping

# Claude Code's first request takes 11,000 tokens and its compaction starts 11,000 before the end (client facts §1.10).
DEFAULT_CONTEXT = 65_536
_MIB_OF_PROMPTS = 16_384
_ONE_SLOT = frozenset({"", "0", "1"})
# MiB of graphics memory from which a second, and a third model may stay loaded beside the first. A card of 24 GB is nearly full with the
# favourite model (backend facts §4.1) and has room for two of 7 billion parameters; which ones fit together is Ollama's to see.
_ROOM_FOR = ((40_000, 3), (20_000, 2))


def serve_environment(
    address: str,
    context: int | None,
    *,
    has_gpu: bool,
    vram_mb: int | None = None,
    memory_mb: int | None = None,
    wished: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The variables for `ollama serve` on `address` (host:port): ours (backend facts §4.1), overruled by `wished`, the address aside.

    One slot, because each has a window of its own in memory; kept loaded, because loading takes half a minute and more; and only with a
    GPU flash attention and an 8-bit KV cache: on a CPU they double the time of the first answer. `vram_mb` is the memory of its cards, in
    MiB: it says how many models may be loaded side by side, where without it one makes room for the other. `memory_mb` is the machine's:
    half of it, at most 16 GiB, may hold prompts that wait for their turn (releases from 0.30 on; older ones ignore it).
    """
    ours = {
        "OLLAMA_CONTEXT_LENGTH": str(context or DEFAULT_CONTEXT),
        "OLLAMA_NUM_PARALLEL": "1",
        "OLLAMA_MAX_LOADED_MODELS": str(models_at_once(vram_mb)),
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_LOAD_TIMEOUT": "15m",
        "OLLAMA_MAX_QUEUE": "64",
        "OLLAMA_NO_CLOUD": "1",
    }
    if has_gpu:
        ours |= {"OLLAMA_FLASH_ATTENTION": "1", "OLLAMA_KV_CACHE_TYPE": "q8_0"}
    if memory_mb:
        ours["LLAMA_ARG_CACHE_RAM"] = str(min(memory_mb // 2, _MIB_OF_PROMPTS))
    found = {**ours, **(wished or {}), "OLLAMA_HOST": address}
    if found["OLLAMA_NUM_PARALLEL"] not in _ONE_SLOT:
        # without it, one after another, all requests take the first slot, whoever's prompt is in there
        found.setdefault("OLLAMA_MULTIUSER_CACHE", "1")
    return found


def models_at_once(vram_mb: int | None) -> int:
    """How many models Ollama may keep in memory. It is a limit: Ollama itself unloads one where another does not fit beside it."""
    return next((count for least, count in _ROOM_FOR if (vram_mb or 0) >= least), 1)
