"""The settings of our own `ollama serve`."""

from __future__ import annotations

import pytest

from llmhost.core.ollama_environment import serve_environment


@pytest.mark.parametrize(("slots", "told"), [(None, None), ("1", None), ("4", "1")])
def test_with_several_slots_each_conversation_gets_one_of_its_own(slots: str | None, told: str | None) -> None:
    wished = {} if slots is None else {"OLLAMA_NUM_PARALLEL": slots}
    found = serve_environment("127.0.0.1:1", None, has_gpu=False, wished=wished)
    assert found.get("OLLAMA_MULTIUSER_CACHE") == told


def test_a_wish_overrules_that() -> None:
    wished = {"OLLAMA_NUM_PARALLEL": "4", "OLLAMA_MULTIUSER_CACHE": "0"}
    assert serve_environment("127.0.0.1:1", None, has_gpu=False, wished=wished)["OLLAMA_MULTIUSER_CACHE"] == "0"


@pytest.mark.parametrize(("vram_mb", "told"), [(None, "1"), (16_376, "1"), (24_564, "2"), (81_559, "3")])
def test_models_may_stay_loaded_side_by_side_where_the_card_has_room(vram_mb: int | None, told: str) -> None:
    found = serve_environment("127.0.0.1:1", None, has_gpu=bool(vram_mb), vram_mb=vram_mb)
    assert found["OLLAMA_MAX_LOADED_MODELS"] == told


def test_a_users_own_number_of_models_holds() -> None:
    wished = {"OLLAMA_MAX_LOADED_MODELS": "7"}
    found = serve_environment("127.0.0.1:1", None, has_gpu=True, vram_mb=24_564, wished=wished)
    assert found["OLLAMA_MAX_LOADED_MODELS"] == "7"
