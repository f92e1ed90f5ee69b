"""The exact cache as a client sees it, through a gateway in front of a node."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmhost.core.server_config import BackendConfig, CacheConfig
from tests.proxy.asking import ask, error_of, fresh, send, stream, streamed_text, text_of
from tests.support.proxy_server import ProxyServer, gateway_of, proxy
from tests.support.sse import parse


def asked_the_node(node: ProxyServer) -> int:
    return node.status()["requests"]["total"]


def test_the_second_time_comes_from_the_cache_and_is_the_same(node: ProxyServer, gateway: ProxyServer) -> None:
    body = fresh()
    first = send(gateway.client, body)
    before = asked_the_node(node)
    second = send(gateway.client, body)
    assert (first.headers["x-llmhost-cache"], second.headers["x-llmhost-cache"]) == ("miss", "exact")
    assert asked_the_node(node) == before
    assert second.json()["content"] == first.json()["content"]
    assert second.json()["usage"] == first.json()["usage"]
    assert second.json()["id"] != first.json()["id"]
    assert second.headers["request-id"] != first.headers["request-id"]


@pytest.mark.parametrize("first_streams", [True, False])
def test_one_entry_serves_both_forms(gateway: ProxyServer, first_streams: bool) -> None:
    body = fresh("@rehearse words 120")
    if first_streams:
        text = streamed_text(stream(gateway.client, body)[1])
        again = send(gateway.client, body)
        assert text_of(again.json()) == text
    else:
        text = text_of(send(gateway.client, body).json())
        again, events = stream(gateway.client, body)
        assert streamed_text(events) == text
        assert sum(name == "content_block_delta" for name, _ in events) > 3, "a replay streams like a live answer"
    assert again.headers["x-llmhost-cache"] == "exact"


def test_tool_calls_are_replayed_with_fresh_ids(gateway: ProxyServer) -> None:
    body = fresh('@rehearse tool Bash {"command": "ls"}', tools=[{"name": "Bash", "input_schema": {"type": "object"}}])
    first, second = (send(gateway.client, body) for _ in range(2))
    assert second.headers["x-llmhost-cache"] == "exact"
    calls = [next(b for b in r.json()["content"] if b["type"] == "tool_use") for r in (first, second)]
    assert calls[0]["id"] != calls[1]["id"]
    assert calls[0]["input"] == calls[1]["input"]


def test_what_does_not_matter_still_hits(gateway: ProxyServer) -> None:
    body = fresh()
    send(gateway.client, body)
    other = {
        **body,
        "model": "claude-sonnet-5",
        "metadata": {"user_id": "other"},
        "messages": [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": body["messages"][0]["content"], "cache_control": {"type": "ephemeral"}}
                ],
            }
        ],
    }
    response = send(gateway.client, other)
    assert response.headers["x-llmhost-cache"] == "exact"
    assert response.json()["model"] == "claude-sonnet-5"


def test_no_cache_asks_again_and_no_store_leaves_nothing(gateway: ProxyServer) -> None:
    body = fresh()
    assert send(gateway.client, body, cache_control="no-store").headers["x-llmhost-cache"] == "bypass"
    assert send(gateway.client, body).headers["x-llmhost-cache"] == "miss"
    assert send(gateway.client, body, cache_control="no-cache").headers["x-llmhost-cache"] == "bypass"
    assert send(gateway.client, body).headers["x-llmhost-cache"] == "exact"


@pytest.mark.parametrize("directive", ["fail 503", "cut 3", "overflow"])
def test_failures_are_never_kept(node: ProxyServer, gateway: ProxyServer, directive: str) -> None:
    body = fresh(f"@rehearse words 9; {directive}" if directive.startswith("cut") else f"@rehearse {directive}")
    assert send(gateway.client, body).status_code >= 400
    before = asked_the_node(node)
    assert send(gateway.client, body).status_code >= 400
    assert asked_the_node(node) > before


def test_an_answer_cut_by_max_tokens_is_not_kept(gateway: ProxyServer) -> None:
    body = fresh("@rehearse words 300", max_tokens=20)
    assert send(gateway.client, body).json()["stop_reason"] == "max_tokens"
    assert send(gateway.client, body).headers["x-llmhost-cache"] == "miss"


def test_sampling_is_not_answered_from_the_cache(gateway: ProxyServer) -> None:
    body = fresh(temperature=0.7)
    session = {"x_claude_code_session_id": "s1"}
    assert send(gateway.client, body).headers["x-llmhost-cache"] == "bypass"
    assert send(gateway.client, body).headers["x-llmhost-cache"] == "bypass", (
        "without a session every repeat may want another sample"
    )
    assert send(gateway.client, body, **session).headers["x-llmhost-cache"] == "exact", (
        "another session asks for the first time"
    )
    assert send(gateway.client, body, **session).headers["x-llmhost-cache"] == "bypass", (
        "the same session again means: regenerate"
    )


@pytest.mark.parametrize("temperature", [None, 0, 1])
def test_default_and_zero_temperature_are_cacheable(gateway: ProxyServer, temperature: float | None) -> None:
    body = fresh(temperature=temperature)
    send(gateway.client, body)
    assert send(gateway.client, body).headers["x-llmhost-cache"] == "exact"


async def at_once(gateway: ProxyServer, bodies: list[dict[str, Any]]) -> list[httpx.Response]:
    transport = httpx.AsyncHTTPTransport(uds=gateway.config.socket)
    headers = {"x-api-key": gateway.config.token}
    async with httpx.AsyncClient(base_url=gateway.base, transport=transport, headers=headers, timeout=30) as client:
        return await asyncio.gather(*(client.post("/v1/messages", json=body) for body in bodies))


def test_equal_requests_at_once_are_one_generation(node: ProxyServer, gateway: ProxyServer) -> None:
    body = fresh("@rehearse stall 0.6; words 30; pace 5")
    before = asked_the_node(node)
    bodies = [body if number % 2 else {**body, "stream": True} for number in range(10)]
    responses = asyncio.run(at_once(gateway, bodies))
    assert asked_the_node(node) == before + 1
    kinds = sorted(response.headers["x-llmhost-cache"] for response in responses)
    assert kinds == ["coalesced"] * 9 + ["miss"]
    whole = {text_of(r.json()) for r in responses if "json" in r.headers["content-type"]}
    streamed = {streamed_text(parse(r.content)) for r in responses if "json" not in r.headers["content-type"]}
    assert len(whole) == 1
    assert whole == streamed


def test_samples_asked_at_once_are_separate_generations(node: ProxyServer, gateway: ProxyServer) -> None:
    body = fresh("@rehearse stall 0.4; say x", temperature=1)
    before = asked_the_node(node)
    asyncio.run(at_once(gateway, [body] * 3))
    assert asked_the_node(node) == before + 3


def test_a_leader_that_leaves_takes_nobody_with_it(node: ProxyServer, gateway: ProxyServer) -> None:
    body = fresh("@rehearse words 40; pace 25")

    async def run() -> httpx.Response:
        transport = httpx.AsyncHTTPTransport(uds=gateway.config.socket)
        headers = {"x-api-key": gateway.config.token}
        async with httpx.AsyncClient(base_url=gateway.base, transport=transport, headers=headers, timeout=30) as client:
            async with client.stream("POST", "/v1/messages", json={**body, "stream": True}) as leader:
                pieces = leader.aiter_raw()
                await anext(pieces)
                follower = asyncio.create_task(client.post("/v1/messages", json=body))
                await asyncio.to_thread(wait_for_two, gateway)
            return await follower

    response = asyncio.run(run())
    assert response.headers["x-llmhost-cache"] == "coalesced"
    assert response.json()["stop_reason"] == "end_turn"


def wait_for_two(gateway: ProxyServer) -> None:
    deadline = time.monotonic() + 5
    while gateway.status()["requests"]["in_flight"] < 2:
        assert time.monotonic() < deadline, "the second request was not taken up beside the first"
        time.sleep(0.02)


def test_status_counts_what_happened(folder: Path, node: ProxyServer) -> None:
    with gateway_of(node, folder) as gateway:
        body = fresh("@rehearse words 50")
        for _ in range(4):
            send(gateway.client, body)
        send(gateway.client, fresh(), cache_control="no-store")
        cache = gateway.status()["cache"]
    assert cache["exact"] == {"hits": 3, "misses": 1, "bypass": 1}
    assert cache["hit_ratio"] == 0.75
    assert cache["entries"] == 1
    assert cache["saved_tokens"] > 0
    assert (cache["store"], cache["state"]) == ("memory", "ok")


def test_clear_forgets(gateway: ProxyServer) -> None:
    body = fresh()
    send(gateway.client, body)
    assert gateway.client.post("/internal/cache/clear", json={"scope": "exact"}).json()["deleted"] >= 1
    assert send(gateway.client, body).headers["x-llmhost-cache"] == "miss"
    assert error_of(gateway.client.post("/internal/cache/clear", json={"scope": "everything"}))[0] == 400


def test_the_default_temperature_spelt_out_is_cacheable_but_a_session_can_ask_anew(gateway: ProxyServer) -> None:
    body = fresh(temperature=1)
    session = {"x_claude_code_session_id": "s9"}
    kinds = [send(gateway.client, body, **more).headers["x-llmhost-cache"] for more in ({}, {}, session, session)]
    assert kinds == ["miss", "exact", "exact", "bypass"]


def test_cache_off_is_a_bypass(folder: Path, node: ProxyServer) -> None:
    with gateway_of(node, folder, cache=CacheConfig(enabled=False)) as gateway:
        body = ask("anything")
        assert [send(gateway.client, body).headers["x-llmhost-cache"] for _ in range(2)] == ["bypass", "bypass"]


def test_a_blank_answer_is_not_served_again(gateway: ProxyServer) -> None:
    body = fresh('@rehearse say " "')
    send(gateway.client, body)
    assert send(gateway.client, body).headers["x-llmhost-cache"] == "miss"


def test_an_answer_of_another_model_is_not_kept_under_this_one_s_key(folder: Path) -> None:
    """The node is replaced between looking and answering: what the other model says must not be remembered as this model's."""
    first, second = (BackendConfig("rehearsal", model=name) for name in ("model-a", "model-b"))
    body = fresh()
    with proxy(folder, first, name="node") as node, gateway_of(node, folder) as gateway:
        node.stop()
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(send, gateway.client, body)
            with proxy(folder, second, name="node"):
                assert held.result(20).status_code == 200
        with proxy(folder, first, name="node"):
            wait_for_model(gateway, "model-a")
            assert send(gateway.client, body).headers["x-llmhost-cache"] == "miss"


def wait_for_model(gateway: ProxyServer, name: str) -> None:
    deadline = time.monotonic() + 10
    while not (gateway.status()["ready"] and gateway.status()["model"]["id"] == name):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_joined_stream_has_its_own_id_and_model_name(gateway: ProxyServer) -> None:
    body = fresh("@rehearse stall 0.6; words 30", stream=True)
    bodies = [{**body, "model": name} for name in ("claude-a", "anthropic/b")]
    starts = [parse(response.content)[0][1]["message"] for response in asyncio.run(at_once(gateway, bodies))]
    assert [start["model"] for start in starts] == ["claude-a", "anthropic/b"]
    assert starts[0]["id"] != starts[1]["id"]


def test_equal_requests_are_one_generation_without_a_cache_too(folder: Path, node: ProxyServer) -> None:
    with gateway_of(node, folder, cache=CacheConfig(enabled=False)) as gateway:
        before = asked_the_node(node)
        asyncio.run(at_once(gateway, [fresh("@rehearse stall 0.4; say x")] * 3))
        assert asked_the_node(node) == before + 1
