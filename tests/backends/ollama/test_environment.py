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
