"""Several nodes behind one gateway: conversations stay where they are, and a node that fails costs its clients nothing they could see."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from llmhost.core.server_config import BackendConfig, NodeConfig, Timing
from tests.proxy.asking import error_of, fresh, send, stream, streamed_text, text_of
from tests.proxy.fleets import (
    CALM,
    NODE,
    Crew,
    busy,
    changed,
    closing_socket,
    config_of,
    gateway,
    node,
    of_session,
    readings,
    session_on,
    states,
)
from tests.support.proxy_server import short_dir
from tests.support.sse import parse
from tests.support.system import wait_until

LINES = "@rehearse words 300; pace 20"
LONG = fresh("@rehearse words 400; pace 20", stream=True)


@pytest.fixture(scope="module")
def shared() -> Iterator[Crew]:
    with short_dir() as path, contextlib.closing(Crew(path)) as crew:
        yield crew


@pytest.fixture
def crew(shared: Crew) -> Crew:
    return shared.whole()


def served(crew: Crew) -> int:
    return sum(one.status()["requests"]["total"] for one in crew.nodes.values())


def dashed(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def test_a_conversation_stays_on_its_node_and_others_go_elsewhere(crew: Crew) -> None:
    for id in ("n1", "n2"):
        headers = of_session(session_on(id))
        assert {send(crew.gateway.client, fresh(), **headers).headers[NODE] for _ in range(5)} == {id}


@pytest.mark.parametrize("what", ["sessions", "subagents"])
def test_parallel_conversations_are_spread(crew: Crew, what: str) -> None:
    def ask(number: int) -> str:
        names = of_session(f"spread-{number}") if what == "sessions" else of_session("one", f"agent-{number}")
        return str(send(crew.gateway.client, fresh("@rehearse words 3; pace 30"), **names).headers[NODE])

    crew.put(*(changed(one, parallel=8) for one in crew.nodes.values()))
    with ThreadPoolExecutor(20) as pool:
        spread = Counter(pool.map(ask, range(20)))
    assert min(spread["n1"], spread["n2"]) >= 4, spread


def test_a_new_conversation_avoids_a_busy_node_and_then_stays(crew: Crew) -> None:
    first, second = of_session(session_on("n1")), of_session(session_on("n1"))
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(send, crew.gateway.client, fresh("@rehearse stall 2"), **first)
        wait_until(lambda: readings(crew.gateway)["n1"]["in_flight"], "the first request to be under way")
        assert send(crew.gateway.client, fresh(), **second).headers[NODE] == "n2"
        assert long.result(20).headers[NODE] == "n1"
    assert send(crew.gateway.client, fresh(), **second).headers[NODE] == "n2"


def test_without_a_session_the_least_busy_node_answers(crew: Crew) -> None:
    with ThreadPoolExecutor(1) as pool:
        long = pool.submit(send, crew.gateway.client, fresh("@rehearse stall 2"))
        at_work = wait_until(
            lambda: next((id for id, one in readings(crew.gateway).items() if one["in_flight"]), None), "a busy node"
        )
        assert {send(crew.gateway.client, fresh()).headers[NODE] for _ in range(4)} == {"n1", "n2"} - {at_work}
        assert long.result(20).status_code == 200


@pytest.mark.parametrize("streaming", [True, False])
def test_a_node_killed_before_its_first_word_is_replaced_unseen(crew: Crew, streaming: bool) -> None:
    """Also after the node's own `message_start`: pings alone bind nobody."""
    errors = crew.gateway.status()["requests"]["errors"]
    with ThreadPoolExecutor(1) as pool:
        body = fresh("@rehearse stall 2; say at last", stream=streaming)
        answer = pool.submit(send, crew.gateway.client, body, **of_session(session_on("n1")))
        wait_until(lambda: busy(crew.nodes["n1"]), "the node to be at work")
        time.sleep(2 * CALM.first_byte)
        crew.kill("n1")
        response = answer.result(30)
    assert response.status_code == 200
    if streaming:
        events = parse(response.content)
        assert [name for name, _ in events].count("message_start") == 1
        assert streamed_text(events) == "at last"
    else:
        assert text_of(response.json()) == "at last"
        assert response.headers[NODE] == "n2"
    assert crew.gateway.status()["requests"]["errors"] == errors


def test_a_dead_node_s_conversation_moves_and_stays_where_it_went(crew: Crew) -> None:
    headers = of_session(session_on("n1"))
    assert send(crew.gateway.client, fresh(), **headers).headers[NODE] == "n1"
    crew.kill("n1")
    assert send(crew.gateway.client, fresh(), **headers).headers[NODE] == "n2"
    with node(crew.folder, "n1"):
        wait_until(lambda: states(crew.gateway)["n1"] == "ready", "the node to be back", 20)
        assert send(crew.gateway.client, fresh(), **headers).headers[NODE] == "n2"


def test_a_node_that_is_back_in_a_moment_keeps_its_conversation(crew: Crew) -> None:
    """A link comes back in half a second; moving would cost the whole prefix."""
    headers = of_session(session_on("n1"))
    path = crew.folder / "link.sock"
    path.symlink_to(str(crew.nodes["n1"].config.socket))
    linked = changed(crew.nodes["n1"], url=f"unix:{path}")
    crew.put(linked, crew.nodes["n2"])
    wait_until(lambda: set(states(crew.gateway).values()) == {"ready"}, "the node over its link")
    assert send(crew.gateway.client, fresh(), **headers).headers[NODE] == "n1"
    with ThreadPoolExecutor(1) as pool:
        away = path.rename(path.with_suffix(".away"))
        answer = pool.submit(send, crew.gateway.client, fresh(), **headers)
        time.sleep(0.4)
        away.rename(path)
        assert answer.result(20).headers[NODE] == "n1"
    path.unlink()


def test_a_node_killed_in_the_middle_is_hung_up_on_and_the_next_try_is_answered(crew: Crew) -> None:
    headers = of_session(session_on("n1"))
    with crew.gateway.client.stream("POST", "/v1/messages", json=LONG, headers=dashed(headers)) as response:
        assert response.headers[NODE] == "n1"
        pieces = response.iter_raw()
        next(pieces)
        crew.kill("n1")
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)
    assert send(crew.gateway.client, fresh(), **headers).headers[NODE] == "n2"


def test_a_node_frozen_before_its_headers_is_replaced(crew: Crew) -> None:
    crew.nodes["n1"].process.send_signal(signal.SIGSTOP)
    try:
        response = send(crew.gateway.client, fresh("@rehearse say hi"), **of_session(session_on("n1")))
        assert (response.status_code, text_of(response.json()), response.headers[NODE]) == (200, "hi", "n2")
    finally:
        crew.nodes["n1"].process.send_signal(signal.SIGCONT)


def test_a_node_frozen_while_it_reads_the_prompt_is_replaced(crew: Crew) -> None:
    with ThreadPoolExecutor(1) as pool:
        body = fresh("@rehearse stall 2; say at last", stream=True)
        answer = pool.submit(stream, crew.gateway.client, body, **of_session(session_on("n1")))
        wait_until(lambda: busy(crew.nodes["n1"]), "the node to be at work")
        time.sleep(2 * CALM.first_byte)  # its headers and pings have come
        crew.nodes["n1"].process.send_signal(signal.SIGSTOP)
        try:
            assert streamed_text(answer.result(30)[1]) == "at last"
        finally:
            crew.nodes["n1"].process.send_signal(signal.SIGCONT)


def test_a_node_frozen_in_the_middle_is_hung_up_on_once_it_was_silent_too_long(crew: Crew) -> None:
    headers = dashed(of_session(session_on("n1")))
    with crew.gateway.client.stream("POST", "/v1/messages", json=LONG, headers=headers) as response:
        pieces = response.iter_raw()
        next(pieces)
        crew.nodes["n1"].process.send_signal(signal.SIGSTOP)
        frozen = time.monotonic()
        try:
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)
            assert time.monotonic() - frozen > 0.8 * CALM.upstream_silence
        finally:
            crew.nodes["n1"].process.send_signal(signal.SIGCONT)


def test_a_gateway_that_was_frozen_itself_reads_what_came_meanwhile(crew: Crew) -> None:
    headers = dashed(of_session(session_on("n1")))
    with crew.gateway.client.stream(
        "POST", "/v1/messages", json=fresh(LINES, stream=True), headers=headers
    ) as response:
        pieces = response.iter_raw()
        received = [next(pieces)]
        crew.gateway.process.send_signal(signal.SIGSTOP)
        time.sleep(CALM.upstream_silence + 1)
        crew.gateway.process.send_signal(signal.SIGCONT)
        received += pieces
    assert len(streamed_text(parse(b"".join(received))).split()) == 300


@pytest.mark.parametrize("how", ["draining", "removed"])
def test_a_node_that_leaves_finishes_its_answer_and_gets_no_new_one(crew: Crew, how: str) -> None:
    headers = of_session(session_on("n1"))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(stream, crew.gateway.client, fresh("@rehearse words 60; pace 20"), **headers)
        wait_until(lambda: busy(crew.nodes["n1"]), "the stream")
        left = [changed(crew.nodes["n1"], draining=True)] if how == "draining" else []
        assert crew.put(*left, crew.nodes["n2"]) == len(left) + 1
        assert send(crew.gateway.client, fresh(), **headers).headers[NODE] == "n2"
        assert len(streamed_text(answer.result(30)[1]).split()) == 60
    assert states(crew.gateway).get("n1") == ("draining" if how == "draining" else None)


def test_a_node_with_a_new_token_is_a_new_one(crew: Crew) -> None:
    crew.put(changed(crew.nodes["n1"], token="not-its-token"))
    wait_until(lambda: states(crew.gateway)["n1"] == "unreachable", "the gateway to be refused")
    status, _, message = error_of(send(crew.gateway.client, fresh()))
    assert (status, "does not accept the gateway's token" in message) == (503, True)


def test_all_down_then_one_back_within_the_hold(crew: Crew) -> None:
    for id in crew.nodes:
        crew.kill(id)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(send, crew.gateway.client, fresh())
        time.sleep(0.3)
        assert not answer.done()
        with node(crew.folder, "n2"):
            response = answer.result(30)
            assert (response.status_code, response.headers[NODE]) == (200, "n2")


def test_when_none_comes_back_the_client_is_told_to_come_again(crew: Crew, folder: Path) -> None:
    timing = Timing(first_byte=0.3, hold=1.5)
    with gateway(folder, list(crew.nodes.values()), timing=timing) as server:
        for id in crew.nodes:
            crew.kill(id)
        wait_until(lambda: set(states(server).values()) == {"unreachable"}, "both to be missed")
        began = time.monotonic()
        response = send(server.client, fresh())
        assert time.monotonic() - began > 0.9 * timing.hold
        status, _, message = error_of(response)
        assert (status, "llmhost status" in message) == (503, True)
        assert int(response.headers["retry-after"]) >= 1
        body = fresh(stream=True)
        with pytest.raises(httpx.RemoteProtocolError):  # too late for a status
            send(server.client, body)
        began = time.monotonic()
        assert error_of(send(server.client, body))[0] == 503
        assert time.monotonic() - began < 0.7 * timing.hold, "the next try must have its status at once"


@pytest.mark.parametrize(
    ("code", "command"),
    [
        ("host_key_changed", "llmhost tunnel --repin n1"),
        ("auth_refused", "llmhost tunnel"),
        ("instance_gone", "llmhost up"),
    ],
)
def test_trouble_is_told_at_once_with_the_command_that_helps(crew: Crew, code: str, command: str) -> None:
    sentence = "The machine is not the one it was."
    crew.put(changed(crew.nodes["n1"], trouble=(code, sentence)))
    began = time.monotonic()
    response = send(crew.gateway.client, fresh(stream=True))
    assert time.monotonic() - began < 1
    status, _, message = error_of(response)
    assert status == 503
    assert sentence in message
    assert message.endswith(command)
    assert "retry-after" in response.headers
    assert readings(crew.gateway)["n1"]["state"] == "failed"


def test_trouble_of_one_is_no_trouble_of_the_other(crew: Crew) -> None:
    crew.put(changed(crew.nodes["n1"], trouble=("auth_refused", "No.")), crew.nodes["n2"])
    headers = of_session(session_on("n1"))
    assert send(crew.gateway.client, fresh(), **headers).headers[NODE] == "n2"


def test_without_nodes_the_way_to_one_is_told_at_once(crew: Crew) -> None:
    crew.put()
    status, _, message = error_of(send(crew.gateway.client, fresh()))
    assert (status, "llmhost up" in message) == (503, True)
    assert crew.gateway.client.get("/ready").status_code == 503
    crew.put(crew.nodes["n1"])
    assert send(crew.gateway.client, fresh()).headers[NODE] == "n1"


def test_a_node_with_another_model_gets_nothing_and_says_why(crew: Crew) -> None:
    with node(crew.folder, "n3", model="other:7b") as other:
        crew.put(crew.nodes["n1"], other)
        wait_until(lambda: states(crew.gateway)["n3"] == "degraded", "the other model to be seen")
        assert {send(crew.gateway.client, fresh(), **of_session(f"m{n}")).headers[NODE] for n in range(12)} == {"n1"}
        detail = readings(crew.gateway)["n3"]["detail"]
        assert "other:7b" in detail
        assert "rehearsal" in detail
        assert crew.gateway.status()["model"]["id"] == "rehearsal"
        assert other.status()["requests"]["total"] == 0


@pytest.mark.parametrize("status", [400, 404, 413, 429])
def test_what_speaks_of_the_request_is_passed_on_from_the_first_node(crew: Crew, status: int) -> None:
    before = served(crew)
    assert error_of(send(crew.gateway.client, fresh(f"@rehearse fail {status}")))[0] == status
    assert served(crew) == before + 1


@pytest.mark.parametrize("status", [500, 502, 503, 529])
def test_what_speaks_of_the_node_is_tried_on_another_then_passed_on(crew: Crew, status: int) -> None:
    before = served(crew)
    response = send(crew.gateway.client, fresh(f"@rehearse fail {status}"))
    assert error_of(response)[0] == status
    assert served(crew) == before + 2
    assert ("retry-after" in response.headers) == (status in (503, 529))


def test_a_node_that_breaks_again_and_again_is_left_alone_unless_it_is_the_last(crew: Crew) -> None:
    headers = of_session(session_on("n1"))
    crew.put(crew.nodes["n1"])
    for _ in range(4):
        assert error_of(send(crew.gateway.client, fresh("@rehearse fail 502"), **headers))[0] == 502
    assert readings(crew.gateway)["n1"]["breaker"] == "open"
    crew.put(*crew.nodes.values())
    wait_until(lambda: states(crew.gateway)["n2"] == "ready", "the other node")
    assert send(crew.gateway.client, fresh(), **headers).headers[NODE] == "n2"


def test_a_loading_node_is_a_queue_with_an_eta(crew: Crew, folder: Path) -> None:
    nowhere = BackendConfig("ollama", url=f"unix:{folder}/no-ollama")
    with (
        node(folder, "n3", backend=nowhere, wait="listening") as loading,
        gateway(folder, [config_of(loading)], timing=Timing(hold=0.5), wait="listening") as server,
    ):
        wait_until(lambda: states(server)["n3"] == "loading", "the node to be seen")
        response = send(server.client, fresh())
        assert error_of(response)[:2] == (529, "overloaded_error")
        assert response.headers["retry-after"] == "2"  # what the node says itself
        crew.put(loading, crew.nodes["n1"])
        assert send(crew.gateway.client, fresh()).headers[NODE] == "n1"


def test_a_link_without_a_proxy_behind_it_is_told_soon(folder: Path, crew: Crew) -> None:
    path = str(folder / "ssh.sock")
    with closing_socket(path):
        crew.put(NodeConfig("n1", f"unix:{path}", "t"))
        began = time.monotonic()
        response = send(crew.gateway.client, fresh())
        assert error_of(response)[0] == 503
        assert "retry-after" in response.headers
        assert time.monotonic() - began < 12, "20 s are for what is coming back"
        crew.put(NodeConfig("n1", f"unix:{path}", "t"), crew.nodes["n2"])
        assert send(crew.gateway.client, fresh(), **of_session(session_on("n1"))).headers[NODE] == "n2"


def test_equal_requests_are_one_and_cached_answers_outlive_their_node(crew: Crew) -> None:
    with ThreadPoolExecutor(4) as pool:
        body = fresh("@rehearse words 20; pace 30")
        answers = list(pool.map(lambda n: send(crew.gateway.client, body, **of_session(f"s{n}")), range(4)))
    assert sorted(one.headers["x-llmhost-cache"] for one in answers) == ["coalesced"] * 3 + ["miss"]
    (id,) = {one.headers[NODE] for one in answers}
    crew.kill(id)
    again = send(crew.gateway.client, body)
    assert again.headers["x-llmhost-cache"] == "exact"
    assert NODE not in again.headers
    assert text_of(again.json()) == text_of(answers[0].json())


def test_an_answer_from_the_second_node_is_kept(crew: Crew) -> None:
    headers = of_session(session_on("n1"))
    crew.kill("n1")
    body = fresh()
    assert send(crew.gateway.client, body, **headers).headers[NODE] == "n2"
    assert send(crew.gateway.client, body, **headers).headers["x-llmhost-cache"] == "exact"


def test_a_client_that_leaves_ends_the_work_on_the_node(crew: Crew) -> None:
    with pytest.raises(httpx.ReadTimeout):
        crew.gateway.client.post("/v1/messages", json=fresh("@rehearse stall 60"), timeout=0.5)
    wait_until(
        lambda: not busy(crew.gateway) and not any(map(busy, crew.nodes.values())), "nobody to be at work", seconds=20
    )
    assert not any(one["in_flight"] for one in readings(crew.gateway).values())


def test_tokens_are_counted_by_a_node_that_is_there(crew: Crew) -> None:
    crew.kill("n1")
    for _ in range(3):
        response = crew.gateway.client.post("/v1/messages/count_tokens", json=fresh())
        assert response.json()["input_tokens"] > 0
        assert "x-llmhost-estimate" not in response.headers
