"""A link that is told one thing while another is under way: nothing that was asked for is lost, and nothing hangs."""

from __future__ import annotations

import asyncio
import itertools
import signal
import time
from dataclasses import replace

import pytest

from llmhost.supervisor.process import command_of, wait_gone
from llmhost.tunnel.links import Links
from tests.support.process_tree import send
from tests.support.sshd import Sshd
from tests.support.system import wait_until
from tests.tunnel.rig import ALIAS, QUICK, answers, read_stream, wait_state


def elsewhere(spec):
    """The same machine by another name, which is another connection to a link."""
    return replace(spec, target=replace(spec.target, host="localhost"))


def goes_to(link, host):
    """Whether the connection in use was opened to `host`."""
    pid = link.view()["pid"]
    return pid is not None and host in command_of(pid)


@pytest.fixture
def links(rig):
    made = Links(rig.run, rig.folder, lambda: None)
    yield made
    made.close()


def only(links):
    return links._all()[0]


def test_another_address_is_followed_though_the_silent_connection_is_heard_again(rig):
    link = rig.link()
    wait_state(link, "up")
    rig.sshd.freeze_sessions()
    rig.sshd.freeze_listener()
    wait_state(link, "reconnecting")
    link.refresh(elsewhere(link.spec))
    wait_until(lambda: len(rig.events("link_opening")) >= 3, "a login to the new address", 20)
    rig.sshd.thaw()
    wait_until(lambda: goes_to(link, "localhost"), "the new address", 20)
    wait_state(link, "up")


def test_a_wish_that_follows_another_at_once_does_not_swallow_it(rig):
    link = rig.link()
    wait_state(link, "up")
    link.refresh(elsewhere(link.spec))
    link.refresh()
    assert link.spec.target.host == "localhost"
    wait_until(lambda: goes_to(link, "localhost"), "the new address", 20)


def test_the_last_of_two_wishes_in_a_row_counts(rig, links):
    links.apply([rig.spec()])
    link = only(links)
    wait_state(link, "up")
    links.apply([elsewhere(rig.spec())])
    links.apply([rig.spec()])
    time.sleep(1.0)
    wait_state(link, "up")
    assert goes_to(link, "127.0.0.1")
    assert link.spec == rig.spec()


@pytest.mark.parametrize("before", ["first", "up"])
def test_a_storm_of_wishes_does_not_keep_it_from_connecting(rig, before):
    link = rig.link()
    if before == "up":
        wait_state(link, "up")
    old, until = link.view()["pid"], time.monotonic() + 20
    while link.view()["pid"] in (None, old) and time.monotonic() < until:
        link.refresh()
        link.kick()
        time.sleep(0.02)
    assert link.view()["pid"] not in (None, old)


def test_another_address_is_tried_after_a_final_failure(rig):
    with Sshd(rig.folder / "d2") as server:
        link = rig.link(rig.spec(target=server.target))  # whose host key is not the pinned one
        assert wait_state(link, "failed")["reason"] == "host_key_changed"
        link.refresh(rig.spec())
        wait_state(link, "up")


def test_a_storm_of_kicks_makes_no_storm_of_logins(rig):
    link = rig.link(rig.spec(timing=replace(QUICK, login_every=1.0)))
    rig.sshd.authorize_nobody()
    began = time.monotonic()
    while (lasted := time.monotonic() - began) < 4.0:
        link.kick()
        time.sleep(0.01)
    assert 2 <= rig.sshd.connections() <= lasted + 2


def test_after_forwarding_was_allowed_a_kick_is_enough(rig):
    with Sshd(rig.folder / "d2", options={"AllowStreamLocalForwarding": "no"}) as server:
        rig.known_hosts.write_text(f"{ALIAS} {server.host_key}\n")
        link = rig.link(rig.spec(target=server.target, identity=str(server.client_key)))
        assert wait_state(link, "failed")["reason"] == "forwarding_refused"
        config = server.folder / "sshd_config"
        config.write_text(config.read_text().replace("AllowStreamLocalForwarding no", "AllowStreamLocalForwarding yes"))
        said = len(server.log)
        send([server.pid], signal.SIGHUP)  # sessions that run keep what they were given
        wait_until(lambda: "Server listening" in server.log[said:], "sshd to have read it", 20)
        link.kick()
        wait_state(link, "up")
        assert answers(link.spec.local)


def test_a_link_that_drains_can_still_be_ended_at_once(rig):
    link = rig.link()
    pid = wait_state(link, "up")["pid"]

    async def story():
        stream = asyncio.create_task(read_stream(link.spec.local, 1000, 0.1))
        await asyncio.sleep(0.5)
        link.close(600.0)
        await asyncio.to_thread(wait_state, link, "draining")
        link.close()
        assert await asyncio.to_thread(link.join, 5)
        with pytest.raises((EOFError, ConnectionError)):
            await stream

    asyncio.run(story())
    assert wait_gone([pid], 5) == []
    assert list(rig.run.iterdir()) == []


def test_a_sleep_while_it_had_failed_for_good_does_not_try_again(rig):
    rig.sshd.rekey()
    link = rig.link(rig.spec(timing=replace(QUICK, woke_after=0.9)))  # every idle second is a sleep
    wait_state(link, "failed")
    before = rig.sshd.connections()
    time.sleep(2.0)
    assert rig.sshd.connections() == before
    assert link.view()["state"] == "failed"


def test_closing_in_the_middle_of_a_login_leaves_nothing(rig):
    rig.sshd.freeze_listener()
    link = rig.link()
    pid = wait_until(lambda: next(iter(link.pids()), None), "a login", 20)
    link.close()
    assert link.join(5)
    assert wait_gone([pid], 5) == []
    assert list(rig.run.iterdir()) == []


def test_reasons_and_states_follow_each_other_as_they_must(rig):
    """No `up` is ever said twice in a row, and none before a connection."""
    link = rig.link()
    wait_state(link, "up")
    for _ in range(3):
        rig.sshd.kill_sessions()
        wait_until(lambda: link.view()["state"] != "up", "the loss", 20)
        wait_state(link, "up")
    states = [event["state"] for event in rig.events("link_state")]
    assert all(one != next_one for one, next_one in itertools.pairwise(states))
