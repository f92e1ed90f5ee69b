"""Choosing a model, and reading what Ollama says of it."""

from __future__ import annotations

from typing import Any

import pytest

from llmhost.backends.ollama import catalog


def model(name: str, size: str = "") -> dict[str, Any]:
    return {"name": name, "details": {"parameter_size": size}}


def test_the_preferred_model_comes_first_then_coders_then_the_larger() -> None:
    models = [
        model("tiny:1b", "1B"),
        model("big:70b", "70.6B"),
        model("x-coder:7b", "7B"),
        model("qwen3-coder:30b", "30.5B"),
    ]
    assert catalog.candidates(models, None) == ["qwen3-coder:30b", "x-coder:7b", "big:70b", "tiny:1b"]


def test_a_model_elsewhere_is_used_only_when_asked_for() -> None:
    models = [
        model("big:480b-cloud", "480B"),
        {**model("other", "1T"), "remote_host": "https://example.org"},
        model("own:1b"),
    ]
    assert catalog.candidates(models, None) == ["own:1b"]
    assert catalog.candidates(models, "big:480b-cloud") == ["big:480b-cloud"]


@pytest.mark.parametrize("wanted", ["mine", "mine:latest"])
def test_a_wanted_model_is_the_only_candidate(wanted: str) -> None:
    assert catalog.candidates([model("mine:latest"), model("other:1b")], wanted) == ["mine:latest"]
    assert catalog.candidates([model("other:1b")], wanted) == []


@pytest.mark.parametrize(("name", "full"), [("a", "a:latest"), ("a:b", "a:b"), ("h:5000/a", "h:5000/a:latest")])
def test_full_name(name: str, full: str) -> None:
    assert catalog.full_name(name) == full


@pytest.mark.parametrize(("size", "count"), [("30.5B", 30.5e9), ("553K", 553e3), ("", 0.0), ("unknown", 0.0)])
def test_parameters(size: str, count: float) -> None:
    assert catalog.parameters(model("a", size)) == count
    assert catalog.parameters({"name": "a"}) == 0.0


def test_renderer_and_parser_from_a_field_or_from_the_modelfile() -> None:
    modelfile = "# c\nFROM /x\nRENDERER qwen3-coder\nPARSER  qwen3-coder\nPARAMETER temperature 0\n"
    assert catalog.modelfile_line({"modelfile": modelfile}, "renderer") == "qwen3-coder"
    assert catalog.modelfile_line({"modelfile": modelfile, "parser": "newer"}, "parser") == "newer"
    assert catalog.modelfile_line({}, "parser") == ""


def test_the_window_a_model_was_trained_for() -> None:
    assert catalog.longest_context({"model_info": {"general.architecture": "qwen3", "qwen3.context_length": 9}}) == 9
    assert catalog.longest_context({}) is None


@pytest.mark.parametrize(
    ("given", "utc"),
    [
        ("2026-11-21T12:19:07.605576721Z", "2026-11-21T12:19:07Z"),
        ("2026-11-21T14:19:07.6+02:00", "2026-11-21T12:19:07Z"),
        (None, catalog.EPOCH),
    ],
)
def test_times(given: Any, utc: str) -> None:
    assert catalog.when(given) == utc
