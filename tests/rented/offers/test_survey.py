"""From a wish to an offer, or to what to wish instead."""

from __future__ import annotations

import pytest

from llmhost.core.errors import NothingSuitable, UsageError
from llmhost.core.settings import load_settings
from llmhost.fleet.offers import disk_gb, offer_wish, survey
from llmhost.fleet.rented.request import RentWish, from_settings
from tests.rented.offers.shelf import NOW, Shelf, offer, settings


def look(has, request=None, market=None, **wishes):
    return survey(request or RentWish("RTX_4090", **wishes), settings(), market or Shelf(has), {}, now=NOW)


def asked(cwd, **flags):
    return from_settings(load_settings(flags, environ={"HOME": str(cwd)}, cwd=cwd))


def test_the_wish_of_a_bare_command(tmp_path):
    request = asked(tmp_path)
    assert (request.gpu, request.model, request.hours, request.trust) == (
        "RTX_4090",
        "qwen3-coder:30b",
        4.0,
        "verified",
    )
    wish = offer_wish(request, settings())
    assert wish.gpus == ("RTX 4090",)
    assert (wish.min_reliability, wish.min_memory_mb, wish.min_down_mbps, wish.disk_gb) == (0.98, 32_000, 500.0, 50.0)


def test_a_rehearsal_takes_any_card_and_a_small_disk_unless_one_is_named(tmp_path):
    request = asked(tmp_path, backend="rehearsal")
    wish = offer_wish(request, settings())
    assert (request.model, wish.gpus, wish.min_vram_mb, wish.disk_gb) == (None, (), 0, 16.0)
    assert offer_wish(asked(tmp_path, backend="rehearsal", gpu="L4"), settings()).gpus == ("L4",)


def test_regions_are_codes_in_any_case_and_any_is_everywhere(tmp_path):
    assert asked(tmp_path, regions="us, se").regions == ("US", "SE")
    assert asked(tmp_path, regions="any").regions == ()
    assert asked(tmp_path).regions == ()


@pytest.mark.parametrize(("lease", "hours"), [("90m", 1.5), ("2d", 48.0), ("none", 24.0)])
def test_offers_are_scored_over_the_lease_one_without_end_over_a_day(tmp_path, lease, hours):
    assert asked(tmp_path, lease=lease).hours == hours


def test_a_lease_of_no_time_is_refused(tmp_path):
    with pytest.raises(UsageError):
        asked(tmp_path, lease="0h")


@pytest.mark.parametrize(
    ("model", "gb"), [("qwen2.5-coder:7b", 40), ("qwen3-coder:30b", 50), ("gpt-oss:120b", 90), ("who/knows", 50)]
)
def test_the_disk_holds_the_model_and_25_gb(model, gb):
    assert disk_gb(RentWish("RTX_4090", model=model)) == gb
    assert disk_gb(RentWish("RTX_4090", model=model, disk_gb=77.0)) == 77.0


def test_the_best_comes_with_its_window_and_the_credit():
    found = look([offer(1, gpu_usd_per_hour=0.5), offer(2)])
    assert found.require().offer.id == 2
    assert found.fit.context == 65_536
    assert found.credit_usd == 25.0
    assert found.notes == ()


def test_the_window_is_that_of_the_card_really_there():
    found = look([offer(gpu="H100 SXM", vram_mb=81_559, cuda=12.4)], RentWish("H100"))
    assert found.fit.context == 262_144


def test_offers_are_shown_to_a_key_that_may_not_see_the_credit():
    market = Shelf([offer()], sees_credit=False)
    assert look([], market=market).credit_usd is None


def test_a_lower_reliability_is_taken_with_a_notice_where_none_was_named():
    found = look([offer(1, reliability=0.96), offer(2, reliability=0.90)])
    assert [each.offer.id for each in found.chosen] == [1]
    assert any("0.98" in note and "0.95" in note for note in found.notes)


def test_a_reliability_that_was_named_holds():
    found = look([offer(1, reliability=0.96)], min_reliability=0.98)
    assert found.chosen == []
    assert "--min-reliability 0.95" in found.refusal.hint


def test_two_machines_are_found_for_two_nodes_where_one_is_not_reliable_enough():
    has = [offer(1), offer(2, reliability=0.96)]
    assert len(look(has, count=1).chosen) == 1
    assert len(look(has, count=2).chosen) == 2


def test_when_nothing_fits_the_nearest_are_named_with_their_number_and_price():
    has = [offer(number, reliability=0.96, gpu_usd_per_hour=0.28 + number / 100) for number in range(3)]
    has += [offer(9, verified=False), offer(10, region="US", reliability=0.5)]
    found = look(has, min_reliability=0.98)
    with pytest.raises(NothingSuitable) as error:
        found.require()
    assert error.value.code == "no_offer"
    assert "4 too unreliable" in error.value.message
    first, second = error.value.hint.split("; ")
    assert first.startswith("3 more with --min-reliability 0.95, from $0.29/h")
    assert second.startswith("1 more with --trust any, from $0.38/h")
    assert [each.frees for each in found.relax] == [3, 1]


def test_each_wish_is_relaxed_no_further_than_it_takes():
    found = look([offer(1), offer(2, gpu_usd_per_hour=0.9), offer(3, gpu_usd_per_hour=0.55)], max_price=0.2)
    assert [each.options for each in found.relax] == [("--max-price 0.4",)]
    assert found.relax[0].nearest.offer.id == 1


def test_several_wishes_are_relaxed_where_one_is_not_enough():
    found = look([offer(1, verified=False, reliability=0.9), offer(2, cuda=11.0)], max_price=0.2, regions=("SE",))
    (only,) = found.relax
    assert set(only.options) == {"--trust any", "--min-reliability 0.9", "--max-price 0.4"}


def test_a_shorter_lease_is_priced_as_one():
    found = look([offer(ends_in_s=2.5 * 3600, down_usd_per_gb=0.039)])
    (only,) = found.relax
    assert only.options == ("--lease 2h",)
    assert only.nearest.effective_usd_per_hour > 0.7  # 0.36, and 0.73 for the model over two hours


def test_a_model_too_big_for_the_card_is_refused_before_anything_else():
    with pytest.raises(NothingSuitable) as error:
        look([offer(gpu="RTX 3060", vram_mb=12_288, reliability=0.1)], RentWish("RTX_3060"))
    assert error.value.code == "model_too_big"


def test_a_card_that_nobody_offers():
    refusal = look([], RentWish("H200")).refusal
    assert (refusal.exit_code, refusal.code) == (3, "no_offer")
    assert "H200" in refusal.message
    assert "--gpu" in refusal.hint


def test_a_card_that_nobody_knows_gets_those_that_may_have_been_meant():
    refusal = look([], RentWish("RTX_490")).refusal
    assert (refusal.exit_code, refusal.code) == (2, "unknown_gpu")
    assert "RTX_4090" in refusal.hint


def test_a_card_that_only_the_market_knows_is_rented():
    found = look([offer(gpu="RTX 7090")], RentWish("RTX_7090"))
    assert found.require().offer.gpu == "RTX 7090"


def test_an_offer_by_its_number_whatever_card_it_has():
    market = Shelf([offer(1), offer(2, gpu="L40S", vram_mb=46_068)])
    found = look([], RentWish(None, offer_id=2), market)
    assert found.require().offer.id == 2
    assert found.rejected == []
    assert [wish.gpus for wish in market.asked] == [("RTX 4090",), ()]


@pytest.mark.parametrize(("number", "words"), [(5, "not on the market"), (1, "has a reliability of 0.500")])
def test_an_offer_by_its_number_that_cannot_be_had_says_why(number, words):
    refusal = look([offer(1, reliability=0.5)], RentWish(None, offer_id=number)).refusal
    assert words in refusal.message
    assert refusal.exit_code == 3


def test_however_much_speaks_against_all_the_way_to_the_nearest_is_told():
    has = [
        offer(n, verified=False, reliability=0.7, down_mbps=90.0, gpu_usd_per_hour=0.2 + n / 10) for n in range(1, 9)
    ]
    found = look(has, max_price=0.1, regions=("US",))
    (only,) = found.relax
    assert only.nearest.offer.id == 1
    assert "--max-price 0.3" in only.options
    assert len(only.options) == 5
