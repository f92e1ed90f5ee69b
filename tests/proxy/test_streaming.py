"""First bytes, pings, heartbeats, failures and leaving: what a client sees on the wire."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from llmhost.core.server_config import BackendConfig, CacheConfig, Timing
from tests.proxy.asking import error_of, fresh, send, stream, streamed_text
from tests.support.proxy_server import ProxyServer, gateway_of, proxy, short_dir
from tests.support.sse import parse


@pytest.fixture(params=["node", "gateway"])
def server(request: pytest.FixtureRequest) -> ProxyServer:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(529, "overloaded_error"), (503, "api_error"), (429, "rate_limit_error"), (400, "invalid_request_error")],
)
def test_a_failure_before_the_first_byte_has_its_own_status(server: ProxyServer, status: int, kind: str) -> None:
    for streaming in (True, False):
        response = send(server.client, fresh(f"@rehearse fail {status}", stream=streaming))
        assert error_of(response)[:2] == (status, kind)
    if status in (429, 503, 529):
        assert int(response.headers["retry-after"]) >= 1


def test_overflow_is_worded_so_that_claude_code_compacts(server: ProxyServer) -> None:
    status, kind, message = error_of(send(server.client, fresh("@rehearse overflow", stream=True)))
    assert (status, kind) == (400, "invalid_request_error")
    tokens, maximum = message.removeprefix("prompt is too long: ").removesuffix(" maximum").split(" tokens > ")
    assert int(tokens) > int(maximum)


def test_silence_is_filled_with_start_pings_and_heartbeats(server: ProxyServer) -> None:
    _, events = stream(server.client, fresh("@rehearse stall 1.4; say at last"))
    names = [name for name, _ in events]
    assert names[0] == "message_start"
    assert names.count("message_start") == 1
    assert names.count("ping") >= 2
    assert streamed_text(events) == "at last"
    empty = [data for name, data in events if name == "content_block_delta" and data["delta"].get("text") == ""]
    assert empty, "a silent node must send an empty delta: Claude Code gives up after ten minutes of pings alone"


def test_a_tool_call_after_heartbeats_is_whole(server: ProxyServer) -> None:
    _, events = stream(
        server.client,
        fresh(
            '@rehearse stall 1.2; tool Bash {"command": "ls; pwd"}',
            tools=[{"name": "Bash", "input_schema": {"type": "object"}}],
        ),
    )
    pieces = [
        data["delta"]["partial_json"] for _, data in events if data.get("delta", {}).get("type") == "input_json_delta"
    ]
    assert json.loads("".join(pieces)) == {"command": "ls; pwd"}
    assert next(data["delta"]["stop_reason"] for name, data in events if name == "message_delta") == "tool_use"


def test_an_answer_cut_in_its_first_block_is_hung_up_on(server: ProxyServer) -> None:
    body = fresh("@rehearse words 50; pace 5; cut 20", stream=True)
    with server.client.stream("POST", "/v1/messages", json=body) as response:
        assert response.status_code == 200
        pieces = response.iter_raw()
        assert next(pieces)
        with pytest.raises(httpx.RemoteProtocolError):
            list(pieces)


def test_an_answer_cut_later_ends_with_an_error_event(server: ProxyServer) -> None:
    tools = [{"name": "Bash", "input_schema": {"type": "object"}}]
    body = fresh('@rehearse tool Bash {"command": "ls"}; words 50; pace 5; cut 20', tools=tools, stream=True)
    events = parse(send(server.client, body).content)
    assert any(name == "content_block_stop" for name, _ in events)
    assert events[-1][0] == "error"
    assert [name for name, _ in events].count("error") == 1


def test_a_cut_answer_asked_whole_is_an_error(server: ProxyServer) -> None:
    assert error_of(send(server.client, fresh("@rehearse words 50; cut 20")))[:2] == (502, "api_error")


@pytest.mark.parametrize("cached", [True, False])
def test_an_error_found_late_has_its_status_on_the_next_try(folder: Path, cached: bool) -> None:
    """Once bytes are out, an overflow can only be told by hanging up; the client's own retries then get the 400 at once."""
    timing = Timing(first_byte=0.2)
    with (
        proxy(folder, name="node", timing=timing) as node,
        gateway_of(node, folder, timing=timing, cache=CacheConfig(enabled=cached)) as gateway,
    ):
        body = fresh("@rehearse stall 0.8; overflow", stream=True)
        with pytest.raises(httpx.RemoteProtocolError):
            send(gateway.client, body)
        for _ in range(2):
            status, _, message = error_of(send(gateway.client, body))
            assert status == 400
            assert message.startswith("prompt is too long")


def test_words_of_the_protocol_inside_an_answer_are_only_words(server: ProxyServer) -> None:
    tools = [{"name": "Write", "input_schema": {"type": "object"}}]
    content = "event: message_start\nevent: content_block_stop\nevent: error\nevent: message_stop\n"
    body = fresh(f"@rehearse tool Write {json.dumps({'content': content})}", tools=tools)
    assert send(server.client, body).json()["content"][0]["input"] == {"content": content}


def test_a_frozen_node_is_not_waited_for_for_ever(folder: Path) -> None:
    timing = Timing(first_byte=0.2, ping=0.2, upstream_silence=0.8)
    with proxy(folder, name="node") as node, gateway_of(node, folder, timing=timing) as gateway:
        node.process.send_signal(signal.SIGSTOP)
        try:
            for body in (fresh(stream=True), fresh(stream=False)):
                with contextlib.suppress(httpx.RemoteProtocolError):
                    assert error_of(send(gateway.client, body))[0] == 503
        finally:
            node.process.send_signal(signal.SIGCONT)


def test_a_node_that_refuses_our_token_is_not_the_client_s_fault(folder: Path) -> None:
    with proxy(folder, name="node", token="another-token") as node:
        wrong = BackendConfig("node", url=node.upstream_url, token="not-it", node_id="n1")
        with proxy(folder, wrong, name="gateway", wait="listening") as gateway:
            status, _, message = error_of(send(gateway.client, fresh()))
            assert status == 503
            assert "llmhost up" in message


def wait_for_idle(server: ProxyServer, limit: float = 5) -> None:
    deadline = time.monotonic() + limit
    while server.status()["requests"]["in_flight"] > 0:
        assert time.monotonic() < deadline, "the request is still running although its client left"
        time.sleep(0.02)


def test_a_client_that_leaves_ends_the_work(node: ProxyServer, gateway: ProxyServer) -> None:
    body = fresh("@rehearse words 5000; pace 50")
    with gateway.client.stream("POST", "/v1/messages", json={**body, "stream": True}) as response:
        next(response.iter_raw())
    with pytest.raises(httpx.ReadTimeout):
        gateway.client.post("/v1/messages", json=body, timeout=0.5)
    wait_for_idle(gateway)
    wait_for_idle(node)


def test_a_request_waits_for_a_node_that_is_coming_back(folder: Path) -> None:
    with proxy(folder, name="node") as first, gateway_of(first, folder) as gateway:
        first.stop()
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(send, gateway.client, fresh())
            with proxy(folder, name="node"):
                assert answer.result(20).status_code == 200


def test_a_node_that_dies_in_the_middle_is_hung_up_on(folder: Path) -> None:
    with proxy(folder, name="node") as node, gateway_of(node, folder) as gateway:
        body = fresh("@rehearse words 5000; pace 20", stream=True)
        with gateway.client.stream("POST", "/v1/messages", json=body) as response:
            pieces = response.iter_raw()
            next(pieces)
            node.process.kill()
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)
        deadline = time.monotonic() + 10
        while gateway.client.get("/health").status_code != 503:
            assert time.monotonic() < deadline, "a gateway whose node is dead must say so"
            time.sleep(0.05)


def test_stop_ends_with_its_lifeline() -> None:
    with short_dir() as path, proxy(path) as server:
        assert server.stop() == 0
        assert not list(path.glob("*.sock"))
