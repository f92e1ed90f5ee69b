"""How the fallback transport spreads streams over connections. The connections here only count."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable

import pytest

from llmhost.tunnel.transports.sshtunnel_child.last_words import Ended
from llmhost.tunnel.transports.sshtunnel_child.pool import Limits, Pool
from tests.support.system import wait_until


class CountingConnection:
    """What the pool uses of a connection."""

    def __init__(self) -> None:
        self.streams = 0
        self.idle_since = time.monotonic()
        self.fresh = True
        self.gone = self.closed = False
        self.why = "pulled out"
        self.on_gone: Callable[[CountingConnection], None] = lambda _: None
        self.carried: list[tuple[socket.socket, Callable[[], None]]] = []
        self.beats: list[bytes] = []

    def carry(self, client: socket.socket, done: Callable[[], None]) -> None:
        self.carried.append((client, done))

    def beat(self, line: bytes) -> None:
        self.beats.append(line)

    def tick(self) -> None:
        pass

    def check_forwarding(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True

    def finish_one(self) -> None:
        self.carried.pop()[1]()

    def vanish(self) -> None:
        self.gone = True
        self.on_gone(self)


class Rig:
    """A pool whose connections are all in `made`; `refuse` makes the next ones fail, `hold` keeps them waiting until it is set."""

    def __init__(self, **limits: float) -> None:
        self.made: list[CountingConnection] = []
        self._clients: list[socket.socket] = []
        self.tries = 0
        self.refuse = False
        self.hold = threading.Event()
        self.hold.set()
        self.ends: queue.SimpleQueue[Ended | None] = queue.SimpleQueue()
        self.pool = Pool(self._open, self.ends.put, Limits(**limits))
        self.pool.start()

    def _open(self) -> CountingConnection:
        self.tries += 1
        self.hold.wait(20)
        if self.refuse:
            raise Ended("connection_refused")
        made = CountingConnection()
        self.made.append(made)
        return made

    def place(self, count: int) -> None:
        for _ in range(count):
            self._clients.append(socket.socket())
            self.pool.place(self._clients[-1])

    def loads(self) -> list[int]:
        return [connection.streams for connection in self.made]

    def wait_loads(self, *expected: int) -> None:
        wait_until(lambda: sorted(self.loads()) == sorted(expected), f"{expected}, not {self.loads()}", 20)

    def close(self) -> None:
        self.hold.set()
        for client in self._clients:
            client.close()


@pytest.fixture
def make():
    rigs = []

    def make(**limits: float) -> Rig:
        rigs.append(Rig(**limits))
        return rigs[-1]

    yield make
    for rig in rigs:
        rig.close()


def test_a_link_that_nobody_uses_is_one_connection(make):
    rig = make()
    rig.pool.tick()
    assert rig.loads() == [0]


def test_a_connection_that_is_full_has_one_in_reserve(make):
    rig = make(group=2)
    rig.place(1)
    assert rig.loads() == [1]
    rig.place(1)
    rig.wait_loads(2, 0)
    rig.place(1)
    rig.wait_loads(2, 1)


def test_streams_wait_for_a_new_connection_rather_than_crowd_an_old_one(make):
    rig = make(group=2)
    rig.hold.clear()
    rig.place(5)
    assert rig.loads() == [2]
    rig.hold.set()
    wait_until(lambda: sum(rig.loads()) == 5, "all to be placed", 20)
    assert max(rig.loads()) == 2


def test_no_more_than_so_many_log_in_at_once(make):
    rig = make(group=1, openers=3)
    rig.hold.clear()
    rig.place(10)
    wait_until(lambda: rig.tries == 4, "the first and three more", 20)
    assert rig.tries == 4


def test_when_there_may_be_no_more_connections_the_groups_grow_evenly(make):
    rig = make(group=2, connections=2)
    rig.place(10)
    rig.wait_loads(5, 5)


def test_when_the_machine_lets_no_more_in_streams_share_what_there_is_and_it_is_not_pestered(make):
    rig = make(group=1, openers=1)
    rig.refuse = True
    rig.place(6)
    rig.wait_loads(6)
    assert rig.tries == 2
    rig.place(1)
    assert rig.tries == 2


def test_a_silent_connection_gets_no_new_streams(make):
    rig = make(group=2)
    rig.made[0].fresh = False
    rig.place(1)
    rig.wait_loads(0, 1)
    assert rig.made[0].streams == 0


def test_connections_without_streams_are_closed_after_a_while_but_not_the_last(make):
    rig = make(group=1, idle=0.0)
    rig.place(3)
    wait_until(lambda: sum(rig.loads()) == 3, "all to be placed", 20)
    wait_until(lambda: rig.loads().count(0) >= 1, "the reserve", 20)
    for connection in rig.made:
        if connection.streams:
            connection.finish_one()
    time.sleep(0.01)  # older than 0 s
    rig.pool.tick()
    assert [connection.closed for connection in rig.made].count(False) == 1


def test_a_lost_connection_leaves_the_others_and_the_last_ends_the_link(make):
    rig = make(group=1)
    rig.place(1)
    rig.wait_loads(1, 0)
    first, second = rig.made
    second.vanish()
    assert rig.ends.empty()
    for connection in rig.made:
        connection.vanish()
    ended = rig.ends.get(timeout=20)
    assert (ended.code, ended.detail) == ("connection_lost", "pulled out")
    assert first.gone


def test_a_connection_that_is_lost_while_it_is_taken_in_is_not_kept(make):
    rig = make(group=1)
    rig.hold.clear()
    rig.place(1)
    rig.hold.set()
    rig.wait_loads(1, 0)
    rig.made[1].vanish()
    rig.place(1)
    wait_until(lambda: len(rig.made) >= 3 and sum(rig.loads()) == 2, "another", 20)
    assert rig.made[1].streams == 0


def test_drained_is_when_the_last_stream_is_over(make):
    rig = make()
    rig.place(2)
    rig.pool.drain()
    rig.made[0].finish_one()
    assert rig.ends.empty()
    rig.made[0].finish_one()
    assert rig.ends.get(timeout=20) is None


def test_every_connection_carries_every_beat(make):
    rig = make(group=1)
    rig.place(1)
    rig.wait_loads(1, 0)
    wait_until(lambda: rig.pool.beat(b"1\n") or all(connection.beats for connection in rig.made), "both to beat", 20)
