"""The parts that booting is made of."""

from __future__ import annotations

import threading
import time

import pytest

from llmhost.core.errors import AuthenticationNeeded, Unavailable
from llmhost.fleet.rented import host_key
from llmhost.fleet.rented.access_key import login, ready_key
from llmhost.fleet.rented.addresses import moved, targets, way_at
from llmhost.fleet.rented.phases import Teller
from llmhost.fleet.rented.pull_watch import PullWatch
from llmhost.fleet.rented.watchtower import Watchtower
from llmhost.providers.market import Instance
from llmhost.ssh.identity import public_key
from llmhost.ssh.pins import Pins
from llmhost.ssh.target import SshTarget
from tests.support.system import wait_until
from tests.support.told import Told

ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAIEr0Y2qTZnFl1SkQ9Zj1g2Y5mQkq0QmS8m0z2n1yY3pV"
OTHER = "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
DIRECT, PROXY = ("203.0.113.42", 30022), ("ssh3.vast.ai", 12296)


# ── addresses ───────────────────────────────────────────────────────────────────────────────────────────────────────


def target(way):
    return SshTarget(*way, "root")


def test_the_direct_way_comes_first():
    assert targets(Instance(1, direct=DIRECT, proxy=PROXY), "root") == [target(DIRECT), target(PROXY)]
    assert targets(Instance(1, proxy=PROXY), "root") == [target(PROXY)]
    assert targets(Instance(1), "root") == []


def test_the_line_end_of_an_address_is_none_of_it():
    assert targets(Instance(1, direct=("203.0.113.42\n", 1)), "root") == [SshTarget("203.0.113.42", 1, "root")]


def test_the_ways_are_tried_in_turns():
    ways = [target(DIRECT), target(PROXY)]
    assert [way_at(ways, number, first_only=True) for number in range(3)] == [ways[0]] * 3
    assert [way_at(ways, number, first_only=False) for number in range(3)] == [ways[1], ways[0], ways[1]]
    assert way_at(ways[1:], 3, first_only=False) == ways[1]
    assert way_at([], 0, first_only=True) is None


@pytest.mark.parametrize(
    ("known", "direct", "proxy", "now"),
    [
        (DIRECT, DIRECT, PROXY, None),
        (PROXY, DIRECT, PROXY, None),
        (DIRECT, ("203.0.113.43", 30023), PROXY, ("203.0.113.43", 30023)),
        (DIRECT, None, PROXY, PROXY),
        (PROXY, DIRECT, ("ssh4.vast.ai", 1), DIRECT),
        (DIRECT, None, None, None),
    ],
)
def test_what_moved(known, direct, proxy, now):
    found = moved(target(known), Instance(1, direct=direct, proxy=proxy))
    assert found == (None if now is None else target(now))


# ── the host key in the log ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_lines_of_the_log():
    text = (
        "Get:1 http://archive.example.org\n"
        f"LLMHOST-HOSTKEY ssh-ed25519 {OTHER} root@first\n"
        f"2026-11-21T18:00:00Z LLMHOST-HOSTKEY ssh-ed25519 {ED25519}\n"
        f"XLLMHOST-HOSTKEY ssh-ed25519 {OTHER} another word\n"
        f"LLMHOST-HOSTKEY ssh-rsa {OTHER} says another type than it is\n"
        "LLMHOST-HOSTKEY ssh-ed25519 short\n"
        "LLMHOST-HOSTKEY\n"
        "LLMHOST-HOSTKEY ssh-ed25519 " + "!" * 60 + "\n"
    )
    assert host_key.parse(text) == [("ssh-ed25519", ED25519)]
    assert host_key.parse("") == []


def test_what_is_pinned_from_the_log_replaces_what_was(tmp_path):
    pins = Pins(tmp_path)
    pins.pin("one", "ssh-ed25519", OTHER)
    host_key.pin(pins, "one", [("ssh-ed25519", ED25519)])
    assert pins.keys("one") == [("ssh-ed25519", ED25519)]


# ── the watchtower ──────────────────────────────────────────────────────────────────────────────────────────────────


class Asked:
    """A market that is asked for its list alone."""

    def __init__(self, *answers) -> None:
        self.answers, self.times, self.at_once, self._inside = list(answers), [], 0, threading.Lock()

    def instances(self):
        assert self._inside.acquire(blocking=False), "two questions at once"
        try:
            self.times.append(time.monotonic())
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self._inside.release()


def test_many_wait_for_one_question():
    market, stop, seen = Asked([Instance(1)]), threading.Event(), []
    tower = Watchtower(market, 0.2)

    def wait() -> None:
        sighting = tower.newest
        for _ in range(3):
            sighting = tower.news(sighting, 20, stop)
            seen.append(sighting.number)

    threads = [threading.Thread(target=wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen) == 24
    assert len(market.times) <= 12
    assert all(later - earlier >= 0.2 for earlier, later in zip(market.times, market.times[1:], strict=False))


def test_a_question_that_failed_is_no_news():
    market = Asked(Unavailable("no network."), Unavailable("no network."), [Instance(7)])
    tower = Watchtower(market, 0.05)
    sighting = tower.news(tower.newest, 20, threading.Event())
    assert sighting.number == 1
    assert sighting.of(7) is not None
    assert sighting.of(8) is None
    assert sighting.of(None) is None
    assert len(market.times) == 3
    assert tower.trouble is None


def test_nothing_comes():
    tower = Watchtower(Asked(Unavailable("no network.")), 0.02)
    assert tower.news(tower.newest, 0.2, threading.Event()) is None
    assert isinstance(tower.trouble, Unavailable)


def test_stopped_it_waits_no_longer():
    stop = threading.Event()
    stop.set()
    tower = Watchtower(Asked([]), 60)
    assert tower.news(tower.newest, 60, stop) is None


# ── the key to log in with ──────────────────────────────────────────────────────────────────────────────────────────


def test_our_key_is_registered_once(paper):
    first = paper.ready_key()
    assert paper.ready_key() == first
    assert first == public_key(login(paper.place.paths).file)
    [entry] = paper.server.market.account.ssh_keys.values()
    assert entry["public_key"].split()[:2] == first.split()[:2]
    assert paper.told.notes == []
    assert login(paper.place.paths).agent is False


class Forbids:
    """A market whose key may not register one."""

    def __init__(self, error) -> None:
        self.error = error

    def register_key(self, public_key):
        raise self.error


def test_a_key_that_may_not_be_registered_is_a_note(place):
    told = Told()
    error = AuthenticationNeeded("your key lacks the user_write permission.", code="no_permission")
    assert ready_key(Forbids(error), place.paths, told).startswith("ssh-ed25519 ")
    assert "user_write" in told.notes[0]
    with pytest.raises(AuthenticationNeeded):
        ready_key(Forbids(AuthenticationNeeded("wrong key.", code="bad_key")), place.paths, told)


# ── progress ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_phases_are_those_of_a_rental(paper):
    rental, told = paper.rent(), Told()
    teller = Teller(paper.ledger, rental.label, told)
    for code, phase in (
        ("check", "ollama"),
        ("bundle", "ollama"),
        ("pull", "model"),
        ("start", "proxy"),
        ("ready", "proxy"),
    ):
        teller.phase(code, f"at {code}")
        assert (paper.kept(rental).phase, paper.kept(rental).detail) == (phase, f"at {code}")
    assert told.phases == ["check", "bundle", "pull", "start", "ready"]
    without = Teller(paper.ledger, rental.label, told, engine=False)
    without.phase("check", "at check")
    assert paper.kept(rental).phase == "proxy"


def test_a_model_is_told_in_percent_and_seldom_written(paper):
    rental, told = paper.rent(), Told()
    teller = Teller(paper.ledger, rental.label, told)
    teller.phase("pull", "pulling m")
    for done in range(1, 1001):
        teller.transfer("pull", "pulling m", done, 1000)
    assert paper.kept(rental).phase == "model"
    assert paper.kept(rental).detail == "pulling m 100 %"
    assert len(told.transfers) == 1000


def test_a_ledger_that_is_gone_ends_nothing(paper):
    rental = paper.rent()
    teller = Teller(paper.ledger, rental.label, Told())
    paper.ledger.close()
    teller.phase("check", "at check")


# ── a pull that stands still ────────────────────────────────────────────────────────────────────────────────────────


class Closable:
    """Of a session only that it can be closed."""

    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


def test_a_pull_without_a_byte_is_ended():
    session = Closable()
    with PullWatch(Told(), session, 0.3) as watch:
        watch.phase("pull", "pulling m")
        for done in range(10):
            watch.transfer("pull", "pulling m", done, 100)
        assert not session.closed.is_set()
        assert session.closed.wait(20)
        wait_until(lambda: watch.stalled, "its word", 5)


def test_other_phases_may_take_their_time():
    session = Closable()
    with PullWatch(Told(), session, 0.1) as watch:
        watch.phase("pull", "pulling m")
        watch.phase("start", "starting")
        assert not session.closed.wait(0.5)
        watch.phase("pull", "pulling m")
        watch.transfer("pull", "verifying sha256 digest", 100, 100)
        assert not session.closed.wait(0.5)
    assert not watch.stalled


def test_how_fast_a_model_came():
    watch = PullWatch(Told(), Closable(), 60)
    watch.phase("pull", "pulling m")
    assert watch.mbps is None
    watch.transfer("pull", "pulling m", 10_000_000, None)
    time.sleep(0.05)
    watch.transfer("pull", "pulling m", 20_000_000, None)
    assert watch.mbps is None  # too little to say
    watch.transfer("pull", "pulling m", 1_010_000_000, None)
    assert 0 < watch.mbps <= 8_000 / 0.05
