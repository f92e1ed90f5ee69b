"""A fleet at its bad moments: nodes that freeze, big requests on the move, clients that leave while they wait."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from llmhost.backends.fleet.members import DROPPED_HOLD_S
from llmhost.core.server_config import Timing
from tests.proxy.asking import error_of, fresh, send, stream, streamed_text, text_of
from tests.proxy.fleets import (
    NODE,
    Crew,
    busy,
    changed,
    closing_socket,
    gateway,
    node,
    of_session,
    readings,
    session_on,
    states,
)
from tests.support.proxy_server import short_dir
from tests.support.system import wait_until

# As in earnest, but for the first bytes: only the watch can find a frozen node in less than half a minute.
USUAL = Timing(first_byte=1.0)
SOON_S = 20.0  # a look every 2 s, each of 5 s at most, and slack for a loaded machine; without the watch it would be 31


@pytest.fixture(scope="module")
def shared() -> Iterator[Crew]:
    with short_dir() as path, contextlib.closing(Crew(path, USUAL)) as crew:
        yield crew


@pytest.fixture
def crew(shared: Crew) -> Crew:
    return shared.whole()


@contextlib.contextmanager
def frozen(crew: Crew, *ids: str) -> Iterator[None]:
    for id in ids:
        crew.nodes[id].process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for id in ids:
            crew.nodes[id].process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("what", ["messages", "count"])
def test_a_request_at_a_node_that_freezes_goes_to_another_as_soon_as_that_is_known(crew: Crew, what: str) -> None:
    headers = {name.replace("_", "-"): value for name, value in of_session(session_on("n1")).items()}
    path = "/v1/messages" if what == "messages" else "/v1/messages/count_tokens"
    with frozen(crew, "n1"):
        began = time.monotonic()
        response = crew.gateway.client.post(path, json=fresh("@rehearse say hi"), headers=headers, timeout=60)
        assert response.status_code == 200
        assert time.monotonic() - began < SOON_S
        assert readings(crew.gateway)["n1"]["in_flight"] == 0
    if what == "messages":
        assert (text_of(response.json()), response.headers[NODE]) == ("hi", "n2")


def test_where_all_nodes_freeze_requests_are_held_until_one_goes_on(crew: Crew) -> None:
    with ThreadPoolExecutor(2) as pool:
        with frozen(crew, "n1", "n2"):
            bodies = [fresh("@rehearse say hi", stream=True) for _ in range(2)]
            answers = [
                pool.submit(stream, crew.gateway.client, body, **of_session(session_on("n1"))) for body in bodies
            ]
            wait_until(lambda: set(states(crew.gateway).values()) == {"unreachable"}, "both to be missed", 30)
            time.sleep(1)
            assert not any(answer.done() for answer in answers)
        assert [streamed_text(answer.result(30)[1]) for answer in answers] == ["hi", "hi"]
    wait_until(lambda: not any(one["in_flight"] for one in readings(crew.gateway).values()), "nothing to be left")


def test_a_node_that_is_coming_back_is_waited_for_when_the_other_cannot(crew: Crew) -> None:
    crew.kill("n2")
    wait_until(lambda: states(crew.gateway)["n2"] == "unreachable", "the node to be missed")
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(send, crew.gateway.client, fresh("@rehearse fail 503"))
        wait_until(lambda: crew.nodes["n1"].status()["requests"]["errors"], "the first node's refusal")
        time.sleep(0.5)
        assert not answer.done()
        with node(crew.folder, "n2"):
            response = answer.result(30)
    assert (error_of(response)[0], response.headers[NODE]) == (503, "n2")


def test_what_a_node_says_late_keeps_its_retry_after(crew: Crew) -> None:
    """After its own first bytes a node can tell a failure only in its stream."""
    response = send(crew.gateway.client, fresh("@rehearse stall 2; fail 529"))
    assert error_of(response)[0] == 529
    assert int(response.headers["retry-after"]) >= 1


def test_one_who_leaves_while_waiting_for_another_s_answer_is_no_error(crew: Crew) -> None:
    body = fresh("@rehearse stall 2; say hi")
    errors = crew.gateway.status()["requests"]["errors"]
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(send, crew.gateway.client, body, **of_session("leader"))
        wait_until(lambda: busy(crew.gateway), "the first")
        with pytest.raises(httpx.ReadTimeout):
            crew.gateway.client.post("/v1/messages", json={**body, "stream": True}, timeout=0.3)
        assert answer.result(20).status_code == 200
    assert crew.gateway.status()["requests"]["errors"] == errors
    assert "unexpectedly" not in crew.gateway.log()


def test_counts_do_not_hide_that_a_node_fails(crew: Crew) -> None:
    crew.put(crew.nodes["n1"])
    for _ in range(3):
        assert error_of(send(crew.gateway.client, fresh("@rehearse fail 502")))[0] == 502
        assert crew.gateway.client.post("/v1/messages/count_tokens", json=fresh()).status_code == 200
    assert readings(crew.gateway)["n1"]["breaker"] == "open"


def test_nobody_waits_for_nodes_that_were_all_removed(crew: Crew) -> None:
    for id in crew.nodes:
        crew.kill(id)
    wait_until(lambda: set(states(crew.gateway).values()) == {"unreachable"}, "both to be missed")
    with ThreadPoolExecutor(3) as pool:
        held = [pool.submit(send, crew.gateway.client, fresh()) for _ in range(3)]
        wait_until(lambda: crew.gateway.status()["requests"]["in_flight"] == 3, "them to be held")
        began = time.monotonic()
        crew.put()
        for answer in held:
            status, _, message = error_of(answer.result(20))
            assert (status, "llmhost up" in message) == (503, True)
        assert time.monotonic() - began < 5


def test_a_request_of_20_mb_moves_to_another_node_whole(crew: Crew) -> None:
    body = fresh("@rehearse stall 1; say hi", padding="x" * 20_000_000)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(send, crew.gateway.client, body, **of_session(session_on("n1")))
        wait_until(lambda: busy(crew.nodes["n1"]), "the node to be at work")
        crew.kill("n1")
        response = answer.result(30)
    assert (text_of(response.json()), response.headers[NODE]) == ("hi", "n2")


def test_the_same_nodes_in_another_order_change_nothing(crew: Crew) -> None:
    headers = of_session(session_on("n2"))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stream, crew.gateway.client, fresh("@rehearse words 40; pace 20"), **headers)
        wait_until(lambda: busy(crew.nodes["n2"]), "the stream")
        crew.put(*reversed(crew.nodes.values()))
        assert list(states(crew.gateway).items()) == [("n2", "ready"), ("n1", "ready")]
        assert len(streamed_text(answer.result(30)[1]).split()) == 40
    assert send(crew.gateway.client, fresh(), **headers).headers[NODE] == "n2"


def test_nine_conversations_leave_none_of_three_nodes_idle(crew: Crew, folder: Path) -> None:
    with node(crew.folder, "n3") as third, gateway(folder, [*crew.nodes.values(), third]) as server:
        on = [send(server.client, fresh(), **of_session(f"talk-{number}")).headers[NODE] for number in range(9)]
        assert {id: on.count(id) for id in ("n1", "n2", "n3")} == {"n1": 3, "n2": 3, "n3": 3}
        again = [send(server.client, fresh(), **of_session(f"talk-{number}")).headers[NODE] for number in range(9)]
        assert again == on


def test_who_takes_the_answer_whole_sees_nothing_of_a_node_that_dies_in_the_middle_of_it(crew: Crew) -> None:
    with ThreadPoolExecutor(1) as pool:
        body = fresh("@rehearse words 60; pace 30")
        answer = pool.submit(send, crew.gateway.client, body, **of_session(session_on("n1")))
        wait_until(lambda: busy(crew.nodes["n1"]), "the node to be at work")
        time.sleep(0.6)
        crew.kill("n1")
        response = answer.result(30)
    assert (response.status_code, response.headers[NODE]) == (200, "n2")
    assert len(text_of(response.json()).split()) == 60


def test_clients_that_leave_while_held_leave_nothing_behind(crew: Crew) -> None:
    for id in crew.nodes:
        crew.kill(id)
    wait_until(lambda: set(states(crew.gateway).values()) == {"unreachable"}, "both to be missed")
    with pytest.raises(httpx.ReadTimeout):
        crew.gateway.client.post("/v1/messages", json=fresh(), timeout=0.5)
    wait_until(lambda: not crew.gateway.status()["requests"]["in_flight"], "nobody to be held")
    assert not any(one["in_flight"] for one in readings(crew.gateway).values())


def test_a_proxy_that_starts_behind_a_link_that_was_long_away_is_waited_for(crew: Crew) -> None:
    """A machine that boots: nobody listens, then its sshd does but not yet the proxy, then both do."""
    link = crew.folder / "booting.sock"
    real = str(crew.nodes["n1"].config.socket)
    with closing_socket(str(crew.folder / "sshd.sock")) as refusing, ThreadPoolExecutor(1) as pool:
        crew.put(changed(crew.nodes["n1"], url=f"unix:{link}"))
        answer = pool.submit(send, crew.gateway.client, fresh("@rehearse say hi"))
        time.sleep(DROPPED_HOLD_S + 1)
        link.symlink_to(refusing)
        time.sleep(1)
        assert not answer.done()
        link.unlink()
        link.symlink_to(real)
        assert answer.result(30).status_code == 200
    link.unlink()
