"""A boot that fails says so as soon as the market does, and whose fault it is."""

from __future__ import annotations

import pytest

from llmhost.core.errors import Interrupted
from tests.support.system import wait_until


@pytest.mark.parametrize(
    ("scenario", "blame", "code"),
    [
        ("manifest_unknown", "image", "image_missing"),
        ("dead_host", "host", "start_refused"),
        ("oci_fail", "host", "container_failed"),
        ("evict", "host", "evicted"),
    ],
)
def test_the_market_says_that_it_fails(paper, scenario, blame, code):
    rental = paper.rent(scenario)
    error = paper.fails(rental)
    assert (error.blame, error.code) == (blame, code)
    assert f"instance {rental.instance_id}" in error.message
    assert error.hint
    note = paper.note(rental)
    assert (note is not None and note.failed_at is not None) == (blame == "host")


@pytest.mark.parametrize("scenario", ["never_leaves_loading", "never_starts"])
def test_one_that_stands_still(paper, scenario):
    paper.use(vast_stall_s=0.8, vast_unpack_stall_s=1.2)
    error = paper.fails(paper.rent(scenario))
    assert (error.blame, error.code) == ("host", "boot_stalled")


def test_one_that_takes_too_long_although_it_moves(paper):
    paper.use(vast_boot_s=1.0)
    paper.control.set(pace=0.05)
    assert paper.fails(paper.rent("happy_cold")).code == "boot_timeout"


def test_silence_while_layers_are_unpacked_is_waited_for(shop):
    shop.use(vast_stall_s=1.5, vast_unpack_stall_s=20.0)
    shop.control.set(pace=0.008)
    booted = shop.boot(shop.rent("unpack_freeze"))
    assert booted.session.run("true").code == 0


def test_no_credit_is_not_the_machine_s_fault(paper):
    rental = paper.rent("happy_cold")
    paper.control.do(rental.instance_id, "broke")
    error = paper.fails(rental)
    assert (error.blame, error.code) == ("account", "credit_zero")
    assert paper.note(rental) is None


def test_stopped_with_credit_left(paper):
    rental = paper.rent("never_starts")
    stopped = dict.fromkeys(("actual_status", "intended_status", "cur_state", "next_state"), "stopped")
    row = paper.control.instance(rental.instance_id).status
    wait_until(lambda: row["actual_status"] == "created", "its creation", 20)
    paper.control.status(rental.instance_id, **stopped)
    error = paper.fails(rental)
    assert (error.blame, error.code) == ("host", "interrupted")


def test_a_host_that_goes_offline_while_booting(paper):
    rental = paper.rent("never_leaves_loading")
    with paper.booting(rental) as ended:
        wait_until(lambda: "Pulling" in (paper.kept(rental).detail or ""), "the layers to be told", 20)
        paper.control.status(rental.instance_id, actual_status="offline")
    assert ended[0].code == "offline"


def test_one_that_somebody_destroys(paper):
    rental = paper.rent("never_leaves_loading")
    with paper.booting(rental) as ended:
        wait_until(lambda: paper.kept(rental).phase == "booting", "the boot to begin", 20)
        paper.control.destroy(rental.instance_id)
    assert (ended[0].code, ended[0].blame) == ("vanished", "ours")


def test_a_list_that_lags_behind_is_waited_for(paper):
    paper.use(vast_settle_s=5.0)
    paper.control.set(list_lag_s=60.0)  # 1.2 s
    assert paper.fails(paper.rent("oci_fail")).code == "container_failed"


def test_a_question_that_fails_is_no_news(paper):
    paper.control.fault("server_error", "GET", "/api/v1/instances", count=3)
    assert paper.fails(paper.rent("oci_fail")).code == "container_failed"


def test_a_market_that_says_nothing_any_more(paper):
    paper.use(vast_stall_s=1.0, vast_read_timeout_s=1.0)
    rental = paper.rent("never_leaves_loading")
    paper.control.fault("server_error", "GET", "/api/v1/instances", count=10_000)
    error = paper.fails(rental)
    assert (error.code, error.blame) == ("market_silent", "network")
    assert paper.note(rental) is None  # nothing was learnt of the machine


def test_how_far_it_is_is_told_and_kept(paper):
    rental = paper.rent("happy_cold")
    paper.control.set(pace=0.1)
    with paper.booting(rental) as ended:
        wait_until(lambda: "Pull complete" in (paper.kept(rental).detail or ""), "the layers to be told", 30)
        assert paper.kept(rental).phase == "booting"
        assert "booting" in paper.told.phases
        paper.desk.stop.set()
    assert isinstance(ended[0], Interrupted)
