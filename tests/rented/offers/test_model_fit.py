"""Which window of which model fits where, by hand-computed numbers."""

from __future__ import annotations

import pytest

from llmhost.core import model_catalog
from llmhost.core.errors import NothingSuitable
from llmhost.fleet.model_fit import fit, min_vram_mb
from llmhost.fleet.rented import gpu_names
from llmhost.providers.model_choice import FAVOURITE
from llmhost.providers.ssh import FAVOURITE_VRAM_MB


@pytest.mark.parametrize(
    ("card", "window"),
    [
        ("RTX 4090", 65_536),
        ("RTX 3090", 65_536),
        ("RTX 5090", 131_072),
        ("L40S", 262_144),
        ("H100 PCIE", 262_144),
        ("H200", 262_144),
    ],
)
def test_the_favourite_gets_the_largest_step_that_a_card_has_room_for(card, window):
    found = fit(FAVOURITE, gpu_names.CARDS[card])
    assert found.context == window
    assert found.needs_mb <= gpu_names.CARDS[card]
    assert not found.notes


def test_what_the_favourite_needs_is_its_weights_its_window_and_the_buffers():
    # 18.6e9 bytes of weights, 65,536 tokens of 52,224 bytes (facts §4.1), in MiB, and 1,900 MiB
    assert model_catalog.facts(FAVOURITE).kv_bytes_per_token == 52_224
    assert min_vram_mb(FAVOURITE, 65_536) == 17_738 + 3_264 + 1_900
    assert min_vram_mb(FAVOURITE, 65_536) == pytest.approx(FAVOURITE_VRAM_MB, rel=0.01)


def test_a_window_that_was_asked_for_is_given_or_refused_never_made_smaller():
    assert fit(FAVOURITE, 24_564, 80_000).context == 80_000
    with pytest.raises(NothingSuitable) as error:
        fit(FAVOURITE, 24_564, 131_072)
    assert error.value.code == "model_too_big"
    assert "131,072" in error.value.message
    assert "--context 65536" in error.value.hint
    assert "--gpu RTX_5090" in error.value.hint


def test_a_window_beyond_the_models_own_is_its_own_and_said():
    found = fit("qwen2.5-coder:7b", 24_564, 65_536)
    assert found.context == 32_768
    assert any("at most 32768 tokens, so 65536 become 32768" in note for note in found.notes)


@pytest.mark.parametrize(("model", "window"), [("qwen2.5-coder:7b", 32_768), ("qwen2.5-coder:32b", 16_384)])
def test_a_window_below_the_floor_is_warned_about(model, window):
    found = fit(model, 24_564)
    assert found.context == window
    assert any("64,000 is the floor" in note for note in found.notes)


def test_a_model_that_is_too_big_is_refused_with_what_would_fit():
    with pytest.raises(NothingSuitable) as error:
        fit(FAVOURITE, 12_288)
    assert error.value.exit_code == 3
    assert "12,288" in error.value.message
    assert "--gpu RTX_4090" in error.value.hint
    model = error.value.hint.split("--model ")[1].split()[0].rstrip(".")
    assert fit(model, 12_288).needs_mb <= 12_288


def test_no_card_is_named_where_none_is_large_enough():
    with pytest.raises(NothingSuitable) as error:
        fit("qwen3-coder:480b", 81_559)
    assert "--gpu" not in error.value.hint
    assert "--model qwen3-coder:30b" in error.value.hint


def test_a_model_of_unknown_size_is_noted_and_not_refused():
    found = fit("somebody/something", 8_000)
    assert found.needs_mb is None
    assert any("cannot be told beforehand" in note for note in found.notes)
    assert min_vram_mb("somebody/something") == 0


def test_the_size_is_told_from_the_name_and_said_to_be_an_estimate():
    found = model_catalog.facts("somebody/great:13b")
    assert found.estimated
    assert found.weights_gb == pytest.approx(7.9, abs=0.1)
    assert found.kv_bytes_per_token is None
    assert any("estimated" in note for note in fit("somebody/great:13b", 24_564).notes)


def test_another_packing_of_a_known_model_keeps_its_window():
    packed = model_catalog.facts("qwen3-coder:30b-a3b-q8_0")
    assert packed.estimated
    assert packed.kv_bytes_per_token == 52_224
    assert packed.weights_gb == pytest.approx(32.4, abs=0.5)  # what the library says of it: 32 GB


@pytest.mark.parametrize("name", ["qwen3-coder", "qwen3-coder:latest", "library/qwen3-coder:30b", "QWEN3-CODER:30B"])
def test_one_model_by_all_its_names(name):
    found = model_catalog.facts(name)
    assert (found.weights_gb, found.max_context, found.name) == (18.6, 262_144, name)


def test_every_known_model_has_a_size_that_its_name_makes_plausible():
    for size in model_catalog.known():
        billions = float(size.name.rpartition(":")[2].rstrip("b"))
        assert 0.45 < size.weights_gb / billions < 0.9, size


@pytest.mark.parametrize(
    ("written", "names"),
    [
        ("RTX_4090", ("RTX 4090",)),
        ("rtx 4090", ("RTX 4090",)),
        ("rtx4090", ("RTX 4090",)),
        ("NVIDIA GeForce RTX 4090", ("RTX 4090",)),
        ("H100", ("H100 PCIE", "H100 SXM", "H100 NVL")),
        ("H100_SXM", ("H100 SXM",)),
        ("a100", ("A100 PCIE", "A100 SXM4")),
        ("RTX_6000Ada", ("RTX 6000Ada",)),
        ("RTX_3080", ("RTX 3080",)),
        ("RTX_3080_Ti", ("RTX 3080 Ti",)),
        ("RTX_7090", ("RTX 7090",)),
    ],
)
def test_cards_by_the_names_people_write(written, names):
    assert gpu_names.market_names(written) == names


def test_near_names_of_one_that_nobody_has():
    assert gpu_names.near_names("RTX_409")[0] == "RTX_4090"
    assert gpu_names.near_names("toaster") == []


@pytest.mark.parametrize(
    ("card", "cuda"),
    [("RTX 4090", 12.4), ("RTX 5090", 12.8), ("RTX 5000Ada", 12.4), ("RTX PRO 6000 WS", 12.8), ("B200", 12.8)],
)
def test_the_newest_cards_need_a_newer_driver(card, cuda):
    assert gpu_names.min_cuda(card, 12.4) == cuda
