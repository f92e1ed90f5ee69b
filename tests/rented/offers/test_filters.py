"""What speaks against an offer, and what the user could say instead."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from llmhost.core.rentals import MachineNote
from llmhost.fleet.rented.offer_filters import reasons
from tests.rented.offers.shelf import NOW, WISH, offer


def against(one, wish=WISH, note=None):
    return reasons(one, wish, {note.machine_id: note} if note else {}, NOW, model_gb=18.6)


def test_nothing_speaks_against_one_that_is_as_wished():
    assert against(offer()) == []


@pytest.mark.parametrize(
    ("fields", "wish", "code", "words", "option"),
    [
        ({"gpu": "RTX 3090"}, {}, "gpu", "is a RTX 3090", None),
        ({"gpus": 4}, {}, "gpus", "4 cards", None),
        ({"rentable": False}, {}, "not_rentable", "cannot be rented", None),
        ({"rented": True}, {}, "rented", "rented already", None),
        ({"vram_mb": 16_000}, {}, "vram", "16,000 MiB", None),
        ({"cuda": 12.2}, {}, "cuda", "CUDA 12.2, not 12.4", None),
        ({"gpu": "RTX 5090", "cuda": 12.6}, {"gpus": ("RTX 5090",)}, "cuda", "not 12.8", None),
        ({"direct_ports": 0}, {}, "no_port", "no port", None),
        ({"memory_mb": 15_890}, {}, "memory", "15.9 GB", "LLMHOST_VAST_MIN_MEMORY_GB=15"),
        ({"down_mbps": 480.0}, {}, "down", "480 Mbit/s", "LLMHOST_VAST_MIN_DOWN_MBPS=450"),
        ({}, {"static_ip": True}, "static_ip", "fixed address", "LLMHOST_VAST_STATIC_IP=false"),
        ({"reliability": 0.97}, {}, "reliability", "0.970, less than 0.98", "--min-reliability 0.95"),
        ({"verified": False}, {}, "trust", "not verified", "--trust any"),
        ({}, {"trust": "datacenter"}, "trust", "datacenter", "--trust verified"),
        ({"verified": False}, {"trust": "datacenter"}, "trust", "datacenter", "--trust any"),
        ({"region": "Sweden, SE"}, {"regions": ("US", "CA")}, "region", "is in SE", "--region any"),
        ({}, {"max_price": 0.33}, "price", "$0.360/h, more than $0.33", "--max-price 0.4"),
        ({"gpu_usd_per_hour": 0.35}, {"max_price": 0.33}, "price", "$0.350/h", "--max-price 0.35"),
        ({"ends_in_s": 3.5 * 3600}, {}, "ends", "3.5 h, less than 4", "--lease 3h"),
        ({"ends_in_s": 600.0}, {}, "ends", "0.2 h", None),
        ({"disk_gb": 38.4}, {}, "disk", "38 GB", "--disk 38"),
        ({"disk_gb": 30.0}, {}, "disk", "30 GB", None),  # the model alone takes 18.6, and the rest 15
        ({}, {"offer_id": 99}, "other_offer", "not offer 99", None),
    ],
)
def test_one_thing_speaks_against_it(fields, wish, code, words, option):
    (reason,) = against(offer(**fields), replace(WISH, **wish))
    assert reason.code == code
    assert words in reason.text
    assert reason.option == option


def test_everything_that_speaks_against_it_is_said():
    found = against(offer(reliability=0.5, verified=False, down_mbps=10.0))
    assert {reason.code for reason in found} == {"reliability", "trust", "down"}


def test_what_is_enough_is_enough():
    exact = offer(
        vram_mb=20_454,
        reliability=0.98,
        down_mbps=500.0,
        memory_mb=32_000,
        ends_in_s=4 * 3600.0,
        disk_gb=50.0,
        cuda=12.4,
    )
    assert against(exact, replace(WISH, max_price=0.36)) == []
    assert against(offer(ends_in_s=None)) == []
    assert against(offer(verified=False, datacenter=True)) == []


def test_any_card_will_do_where_none_is_named():
    assert against(offer(gpu="Titan RTX"), replace(WISH, gpus=())) == []


@pytest.mark.parametrize(
    ("days", "proven_days", "shunned"),
    [(1, None, True), (6.9, None, True), (7.1, None, False), (1, 0.5, False), (1, 30, True)],
)
def test_a_machine_that_failed_is_left_alone_for_a_week_unless_it_served_since(days, proven_days, shunned):
    def at(ago):
        return None if ago is None else (NOW - timedelta(days=ago)).isoformat()

    note = MachineNote(1001, failed_at=at(days), why="it never opened ssh", proven_at=at(proven_days))
    found = against(offer(), note=note)
    assert [reason.code for reason in found] == (["failed_lately"] if shunned else [])
    assert all("it never opened ssh" in reason.text for reason in found)
