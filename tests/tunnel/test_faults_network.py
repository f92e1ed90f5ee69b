"""A link over a slow, lossy and sometimes dead network, in namespaces of the test's own (bars T4 and T15 of the tunnel facts §5)."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import replace

import pytest

from llmhost.supervisor.process import wait_gone
from tests.support.netns import SERVER, SlowNet
from tests.support.system import wait_until
from tests.tunnel.rig import QUICK, Rig, answers, read_stream, until_answer, wait_state

RTT_S = 0.08


@pytest.fixture
def far(short_tmp):
    """A rig whose sshd is 80 ms away, and the network in between."""
    net = SlowNet(short_tmp)
    net.set(delay=RTT_S / 2)
    rig = Rig(short_tmp, host=SERVER)
    try:
        with net.inside("server"):
            rig.start()
        yield rig, net
    finally:
        net.set(hole=0)
        rig.close()
        net.close()


def link_over(far, **timing):
    rig, net = far
    link = rig.link(rig.spec(ssh_program=str(net.ssh), timing=replace(QUICK, **timing)))
    wait_state(link, "up")
    return link


def test_t15_events_come_one_by_one_and_a_new_connection_takes_two_round_trips(far):
    link = link_over(far)
    events = asyncio.run(read_stream(link.spec.local, 300, 0.01))
    gaps = [b - a for (_, a), (_, b) in itertools.pairwise(events)]
    # Without a session sshd leaves Nagle's algorithm on: every eighth gap would be a whole round trip, the others nothing. A busy machine
    # makes a few gaps long as well, so what is asked is whether fewer than one in ten is.
    assert sorted(gaps)[int(len(gaps) * 0.9)] < 0.06
    times = []
    for _ in range(9):
        began = time.monotonic()
        assert answers(link.spec.local, timeout_s=5)
        times.append(time.monotonic() - began)
    assert min(times) < 2.2 * RTT_S + 0.05  # a third round trip would not fit
    wait_until(lambda: RTT_S * 1000 <= link.view()["rtt_ms"] < RTT_S * 1000 + 60, "a round-trip time that is told", 20)


def test_t4_a_stream_survives_a_short_black_hole_and_a_request_is_answered_soon_after(far):
    link, (_, net) = link_over(far), far

    async def story():
        stream = asyncio.create_task(read_stream(link.spec.local, 60, 0.1))
        await asyncio.sleep(1.0)
        net.set(hole=1)
        await asyncio.to_thread(wait_state, link, "reconnecting")
        await asyncio.sleep(1.0)
        net.set(hole=0)
        took = await asyncio.to_thread(until_answer, link.spec.local)
        return took, await asyncio.wait_for(stream, 60)

    took, events = asyncio.run(story())
    assert len(events) == 60
    assert took < 5.0 + 3.0


def test_t4_a_long_black_hole_ends_the_stream_and_the_old_ssh_and_a_request_is_answered_soon_after(far):
    link, (_, net) = link_over(far, alive_interval=1, alive_count=4, connect=4.0), far
    old = link.view()["pid"]

    async def story():
        stream = asyncio.create_task(read_stream(link.spec.local, 1000, 0.1))
        await asyncio.sleep(1.0)
        net.set(hole=1)
        with pytest.raises((EOFError, ConnectionError)):
            await asyncio.wait_for(stream, 30)
        net.set(hole=0)
        return await asyncio.to_thread(until_answer, link.spec.local)

    assert asyncio.run(story()) < 5.0 + 3.0
    assert wait_gone([old], 10) == []
    assert link.view()["reconnects"] >= 1


def test_a_lossy_network_is_no_reason_to_reconnect(far):
    link, (_, net) = link_over(far, echo_within=3.0), far
    net.set(loss=0.02)
    assert len(asyncio.run(read_stream(link.spec.local, 100, 0.03))) == 100
    assert link.view()["reconnects"] == 0


def test_after_kill_9_of_the_supervisor_nothing_waits_for_a_dead_network(far):
    link, (rig, net) = link_over(far), far
    net.set(hole=1)
    pid = link.view()["pid"]
    rig.cut_lifeline()
    assert wait_gone([pid], 1.0 + 5.0) == []
