"""Every row of the table of status fields: what it means, who is to blame, and how long it is waited for."""

from __future__ import annotations

import pytest

from llmhost.fleet.rented.classify import Failed, Patience, Progressing, Running, Story, classify
from llmhost.providers.market import Instance
from tests.support.marketplace.scenarios import SCENARIOS

PATIENCE = Patience(stall_s=300, unpack_stall_s=600, boot_s=900, offline_s=120, exited_s=300)
UP = {"intended": "running", "current": "running", "next": "running"}
STOPPED = {"actual": "stopped", "intended": "stopped", "current": "stopped", "next": "stopped"}
PULL = "4c7d45f7c63c: Pull complete"


def seen(actual, message="", **fields):
    return Instance(1, actual=actual, message=message, **{**UP, **fields})


def judged(*answers, was_running=False):
    """The verdict after `(time, instance)` answers in a row."""
    story, verdict = Story.begin(0.0, was_running=was_running), None
    for at, instance in answers:
        story = story.then(instance, at)
        verdict = classify(instance, story, at, PATIENCE)
    return verdict


@pytest.mark.parametrize("actual", [None, "created", "loading", "scheduling", "rebooting", "something new"])
def test_what_goes_on_is_waited_for(actual):
    verdict = judged((5, seen(actual)))
    assert isinstance(verdict, Progressing)
    assert verdict.text


def test_nothing_is_known_right_after_the_rent():
    assert isinstance(judged((0, Instance(1))), Progressing)


def test_running():
    assert isinstance(judged((5, seen("loading")), (20, seen("running", "success, running image/ssh"))), Running)


def test_old_trouble_in_the_message_of_a_running_one_does_not_count():
    assert isinstance(judged((5, seen("running", "Error response from daemon"))), Running)


@pytest.mark.parametrize("actual", ["loading", "created", None, "exited"])
@pytest.mark.parametrize(
    ("message", "blame", "code"),
    [
        (
            "Error response from daemon: manifest for x:1 not found: manifest unknown: manifest unknown",
            "image",
            "image_missing",
        ),
        ("Error response from daemon: pull access denied for x", "image", "image_missing"),
        ("x, repository does not exist or may require 'docker login'", "image", "image_missing"),
        ("unauthorized: authentication required", "image", "image_missing"),
        ("failed to resolve reference docker.io/x", "image", "image_missing"),
        ("Template not found", "image", "image_missing"),
        ("Error response from daemon: OCI runtime create failed: runc create failed", "host", "container_failed"),
        ("docker_build() error writing dockerfile", "host", "container_failed"),
        ("Error response from daemon: something", "host", "container_failed"),
        ("write /var/lib/docker/x: no space left on device", "host", "host_disk_full"),
    ],
)
def test_the_daemon_says_that_it_cannot(actual, message, blame, code):
    verdict = judged((20, seen(actual, message)))
    assert isinstance(verdict, Failed)
    assert (verdict.blame, verdict.code) == (blame, code)


def test_the_message_goes_before_what_the_market_makes_of_it():
    verdict = judged((40, seen("loading", "manifest unknown", current="stopped")))
    assert verdict.code == "image_missing"


@pytest.mark.parametrize("field", ["intended", "current"])
@pytest.mark.parametrize("actual", ["loading", "created", None])
def test_a_dead_host(actual, field):
    verdict = judged((3, seen(actual, **{field: "stopped"})))
    assert (verdict.blame, verdict.code) == ("host", "start_refused")


@pytest.mark.parametrize("actual", ["loading", "running"])
def test_an_eviction_is_seen_before_it_happens(actual):
    verdict = judged((3, seen(actual, next="stopped")))
    assert (verdict.blame, verdict.code) == ("host", "evicted")


def test_outbid():
    assert judged((3, seen("stopped", current="stopped", next="running"))).code == "outbid"


@pytest.mark.parametrize("actual", ["stopped", "exited", "running", "loading"])
def test_all_stopped_may_be_the_account(actual):
    verdict = judged((3, Instance(1, **{**STOPPED, "actual": actual})))
    assert (verdict.blame, verdict.code) == ("account", "all_stopped")


@pytest.mark.parametrize("actual", ["offline", "unknown"])
def test_a_host_that_is_lost_while_booting_is_given_up_at_once(actual):
    assert judged((3, seen("loading")), (10, seen(actual))).code == "offline"


@pytest.mark.parametrize("actual", ["offline", "unknown"])
def test_a_host_that_was_there_before_may_come_back(actual):
    before = (10, seen("running"))
    assert isinstance(judged(before, (20, seen(actual)), (139, seen(actual))), Progressing)
    assert isinstance(judged(before, (20, seen(actual)), (100, seen("running"))), Running)
    assert judged(before, (20, seen(actual)), (140, seen(actual))).code == "offline"
    assert isinstance(judged((20, seen(actual)), was_running=True), Progressing)


def test_exited_may_start_again():
    assert isinstance(judged((10, seen("running")), (40, seen("exited")), (300, seen("exited", "other"))), Progressing)
    assert isinstance(judged((40, seen("exited")), (160, seen("running"))), Running)
    assert judged((40, seen("exited")), (340, seen("exited"))).code == "exited"


def test_no_news_for_too_long():
    assert isinstance(judged((10, seen("loading")), (309, seen("loading"))), Progressing)
    verdict = judged((10, seen("loading", "#7 DONE 31.8s")), (310, seen("loading", "#7 DONE 31.8s")))
    assert (verdict.blame, verdict.code) == ("host", "boot_stalled")
    assert "#7 DONE" in verdict.text


def test_unpacking_is_silent_for_longer():
    assert isinstance(judged((10, seen("loading", PULL)), (609, seen("loading", PULL))), Progressing)
    assert judged((10, seen("loading", PULL)), (610, seen("loading", PULL))).code == "boot_stalled"


def test_once_layers_were_seen_the_longer_limit_stays():
    answers = [(10, seen("loading", PULL)), (20, seen("loading", "")), (500, seen("loading", ""))]
    assert isinstance(judged(*answers), Progressing)


def test_all_of_it_has_a_limit_however_much_moves():
    answers = [(each, seen("loading", f"line {each}")) for each in range(0, 900, 50)]
    assert isinstance(judged(*answers), Progressing)
    assert judged(*answers, (900, seen("loading", "line"))).code == "boot_timeout"


def test_time_that_nobody_saw_counts_for_no_stall():
    story = Story.begin(0.0).then(seen("loading"), 10).without(200).then(seen("loading"), 400)
    assert isinstance(classify(seen("loading"), story, 400, PATIENCE), Progressing)
    assert classify(seen("loading"), story, 510, PATIENCE).code == "boot_stalled"


def test_a_message_of_the_host_is_shown_as_one_clean_line():
    verdict = judged((5, seen("loading", "\x1b[31m4c7d: Download\r\ncomplete\x07\n" + "x" * 500)))
    assert isinstance(verdict, Progressing)
    assert "\n" not in verdict.text
    assert "\x1b" not in verdict.text
    assert len(verdict.text) <= 200


# How each life that the marketplace can play ends, at real time.
ENDS = {
    "happy_warm": None,
    "happy_cold": None,
    "unpack_freeze": None,
    "ports_null_while_running": None,
    "never_ssh": None,
    "manifest_unknown": "image_missing",
    "dead_host": "start_refused",
    "oci_fail": "container_failed",
    "never_starts": "boot_stalled",
    "never_leaves_loading": "boot_stalled",
    "evict": "evicted",
}


@pytest.mark.parametrize("scenario", sorted(ENDS))
def test_the_lives_of_instances(scenario):
    """Looked at every ten seconds, as it is."""
    script = SCENARIOS[scenario]()
    status = {"actual_status": None, "intended_status": "running", "cur_state": "running", "next_state": "running"}
    story, at, due = Story.begin(0.0), 0.0, 0.0
    while at < 2_000:
        while script and due + script[0].after <= at:
            due += script[0].after
            status |= script.pop(0).fields
        instance = Instance(
            1,
            actual=status["actual_status"],
            intended=status["intended_status"],
            current=status["cur_state"],
            next=status["next_state"],
            message=status.get("status_msg") or "",
        )
        story = story.then(instance, at)
        verdict = classify(instance, story, at, PATIENCE)
        if not isinstance(verdict, Progressing):
            break
        at += 10
    assert (verdict.code if isinstance(verdict, Failed) else None) == ENDS[scenario]
