"""The cheapest for the hours asked, by costs computed by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhost.core.rentals import MachineNote
from llmhost.fleet.rented.ranking import Job, price, rank, without
from tests.rented.offers.shelf import NOW, WISH, offer

LONG_AGO = (NOW - timedelta(days=30)).isoformat()


def order(offers, job=None, notes=(), wish=WISH):
    ranking = rank(offers, wish, job or Job(4.0, 19.0), {note.machine_id: note for note in notes}, NOW)
    return [each.offer.id for each in ranking.chosen]


def test_the_cost_of_two_hours_by_hand():
    one = offer(gpu_usd_per_hour=0.28, disk_usd_per_gb_month=0.144, down_usd_per_gb=0.039, up_usd_per_gb=0.01)
    priced = price(one, WISH, Job(2.0, 19.0, 0.5))
    # boot 330 s; 19 GB at 0.6 of 900 Mbit/s: 281.5 s; together 0.16986 h of $0.29
    assert priced.gpu_usd == 0.28
    assert priced.disk_usd == pytest.approx(0.01)
    assert priced.minutes_to_ready == pytest.approx((330 + 152_000 / 540) / 60)
    assert priced.download_usd == pytest.approx(0.741 + 0.005)
    assert priced.total_usd == pytest.approx(0.29 * 2.169856 + 0.746, abs=1e-5)
    assert priced.effective_usd_per_hour == pytest.approx(priced.total_usd / 2)
    assert priced.hourly_usd == pytest.approx(0.29)


def test_a_cheap_hour_with_dear_gigabytes_loses_over_two_hours_and_wins_over_two_days():
    dear_bytes = offer(1, gpu_usd_per_hour=0.28, down_usd_per_gb=0.039)
    free_bytes = offer(2, gpu_usd_per_hour=0.36)
    assert order([dear_bytes, free_bytes], Job(2.0, 19.0)) == [2, 1]
    assert order([dear_bytes, free_bytes], Job(48.0, 19.0)) == [1, 2]


def test_a_slow_line_costs_while_it_loads():
    # 19 GB: 21 minutes at 200 Mbit/s, 2 at 2,000, which at $0.40/h is 13 cents
    slow, fast = offer(1, gpu_usd_per_hour=0.40, down_mbps=200.0), offer(2, gpu_usd_per_hour=0.42, down_mbps=2000.0)
    wish = replace(WISH, min_down_mbps=0.0)
    assert order([slow, fast], Job(2.0, 19.0), wish=wish) == [2, 1]
    assert order([slow, fast], Job(24.0, 19.0), wish=wish) == [1, 2]


def test_no_line_is_believed_to_be_faster_than_one_is():
    assert (
        price(offer(down_mbps=10_000.0), WISH, Job(4.0, 19.0)).minutes_to_ready
        == price(offer(down_mbps=2_500.0), WISH, Job(4.0, 19.0)).minutes_to_ready
    )


def test_a_dear_disk_counts():
    assert order([offer(1, disk_usd_per_gb_month=0.6), offer(2, gpu_usd_per_hour=0.38)]) == [2, 1]  # 0.36 + 0.042


def test_an_unreliable_machine_counts_as_dearer_and_fast_memory_as_cheaper():
    assert order([offer(1, reliability=0.981), offer(2, gpu_usd_per_hour=0.37, reliability=0.999)]) == [2, 1]
    assert order([offer(1, memory_gb_per_s=700.0), offer(2, gpu_usd_per_hour=0.38)]) == [2, 1]
    assert order([offer(1, memory_gb_per_s=700.0), offer(2, gpu_usd_per_hour=0.38)], Job(4.0)) == [
        1,
        2,
    ]  # a rehearsal needs none


def test_the_markets_own_total_holds_where_it_is_more_than_its_parts():
    priced = price(offer(gpu_usd_per_hour=0.30, price_usd_per_hour=0.40), WISH, Job(4.0))
    assert priced.hourly_usd == pytest.approx(0.40)
    assert any("more than its parts" in note for note in priced.notes)


def test_what_was_measured_on_a_machine_replaces_the_guess():
    note = MachineNote(1001, boot_s=40.0, down_mbps=2000.0)
    assert price(offer(), WISH, Job(4.0, 19.0), note).minutes_to_ready == pytest.approx((40 + 76) / 60)


def test_a_proven_machine_is_preferred_while_it_costs_little_more():
    proven = MachineNote(1002, proven_at=LONG_AGO)
    assert order([offer(1), offer(2, gpu_usd_per_hour=0.39)], notes=[proven]) == [2, 1]
    assert order([offer(1), offer(2, gpu_usd_per_hour=0.45)], notes=[proven]) == [1, 2]


def test_a_machine_that_failed_is_rejected_with_the_reason():
    note = MachineNote(1001, failed_at=(NOW - timedelta(days=1)).isoformat(), proven_at=LONG_AGO)
    ranking = rank([offer(1), offer(2)], WISH, Job(4.0), {1001: note}, NOW)
    assert [each.offer.id for each in ranking.chosen] == [2]
    assert [reason.code for reason in ranking.rejected[0].reasons] == ["failed_lately"]


def test_of_one_machines_offers_only_the_best_is_taken():
    ranking = rank(
        [offer(1, machine_id=5, gpu_usd_per_hour=0.5), offer(2, machine_id=5), offer(3)], WISH, Job(4.0), {}, NOW
    )
    assert [each.offer.id for each in ranking.chosen] == [2, 3]
    assert [(each.offer.id, each.reasons[0].code) for each in ranking.rejected] == [(1, "same_machine")]
    assert [each.offer.id for each in without(ranking, [5]).chosen] == [3]


offers = st.lists(
    st.builds(
        offer,
        number=st.integers(1, 10**6),
        gpu_usd_per_hour=st.floats(0.05, 3.0),
        disk_usd_per_gb_month=st.floats(0.0, 0.6),
        down_usd_per_gb=st.sampled_from([0.0, 0.002, 0.013, 0.039]),
        down_mbps=st.floats(500.0, 8000.0),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda each: each.id,
)


@settings(deadline=None, max_examples=60)
@given(offers, st.floats(0.5, 72.0), st.randoms(use_true_random=False))
def test_among_equal_machines_the_first_is_the_cheapest_in_whatever_order_they_come(found, hours, dice):
    job = Job(hours, 18.6)
    mixed = found[:]
    dice.shuffle(mixed)
    first = rank(mixed, WISH, job, {}, NOW).chosen
    assert [each.offer.id for each in first] == [each.offer.id for each in rank(found, WISH, job, {}, NOW).chosen]
    costs = [
        (each.gpu_usd_per_hour + 50 * each.disk_usd_per_gb_month / 720)
        * (hours + (330 + 8 * 18.6e9 / (min(each.down_mbps, 2500) * 1e6 * 0.6)) / 3600)
        + 18.6 * each.down_usd_per_gb
        for each in found
    ]
    assert first[0].total_usd == pytest.approx(min(costs))
