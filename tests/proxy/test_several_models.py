"""Models asked for by name, on a node and through a gateway: the right one answers, from a node that has it, and is cached as itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from llmhost.core.server_config import BackendConfig, CacheConfig
from tests.proxy.asking import ask, error_of, fresh, send, text_of
from tests.proxy.fleets import CALM, NODE, gateway, node, readings
from tests.support.proxy_server import ProxyServer, short_dir
from tests.support.small_ollama import Model, SmallOllama
from tests.support.system import wait_until


def ollama(*names: str) -> SmallOllama:
    """Each says its name; `embed` cannot chat."""
    models = [Model(name, says=f"this is {name}", max_context=65_536 if name == "a:1b" else 32_768) for name in names]
    return SmallOllama([*models, Model("embed:1b", capabilities=["embedding"], says="never")])


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with short_dir() as made:
        yield made


@pytest.fixture(scope="module")
def nodes(folder: Path) -> Iterator[dict[str, ProxyServer]]:
    """n1 has a (its main one) and b; n2 has a only."""
    with (
        ollama("a:1b", "b:1b", "claudette:1b") as both,
        ollama("a:1b") as one,
        node(folder, "n1", backend=_backend(both)) as n1,
        node(folder, "n2", backend=_backend(one)) as n2,
    ):
        yield {"n1": n1, "n2": n2}


@pytest.fixture(scope="module")
def front(folder: Path, nodes: dict[str, ProxyServer]) -> Iterator[ProxyServer]:
    with gateway(folder, list(nodes.values()), cache=CacheConfig(), timing=CALM) as server:
        wait_until(lambda: "b:1b" in readings(server)["n1"]["models"], "the models of n1", 20)
        yield server


def _backend(server: SmallOllama) -> BackendConfig:
    return BackendConfig("ollama", url=server.url, model="a:1b", context=65_536)


@pytest.fixture(params=["n1", "front"])
def server(request: pytest.FixtureRequest, nodes: dict[str, ProxyServer], front: ProxyServer) -> ProxyServer:
    return front if request.param == "front" else nodes[request.param]


def answered(client: httpx.Client, body: dict[str, Any]) -> tuple[str, httpx.Response]:
    response = send(client, body)
    assert response.status_code == 200, response.text
    return text_of(response.json()), response


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("a:1b", "a:1b"),
        ("b:1b", "b:1b"),
        ("B:1B", "b:1b"),
        ("claude-opus-9", "a:1b"),
        ("claudette:1b", "claudette:1b"),  # one that is really called so
        ("anthropic/b:1b", "a:1b"),  # all such names mean the main one
        (None, "a:1b"),
    ],
)
@pytest.mark.parametrize("streaming", [True, False])
def test_the_model_that_is_named_answers(server: ProxyServer, model: str | None, said: str, streaming: bool) -> None:
    response = send(server.client, fresh(model=model, stream=streaming))
    assert f"this is {said}" in response.text
    assert f'"model":"{model or "a:1b"}"' in response.text, "the name that was asked for is echoed"


def test_all_that_can_chat_are_listed_with_their_windows(server: ProxyServer) -> None:
    listed = {entry["id"]: entry["max_input_tokens"] for entry in server.client.get("/v1/models").json()["data"]}
    assert listed == {"a:1b": 65_536, "anthropic/a:1b": 65_536, "b:1b": 32_768, "claudette:1b": 32_768}
    assert server.client.get("/v1/models/b:1b").json()["max_input_tokens"] == 32_768


@pytest.mark.parametrize("model", ["embed:1b", "c:70b"])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_what_cannot_be_served_is_a_404_with_the_command(server: ProxyServer, model: str, path: str) -> None:
    status, kind, message = error_of(server.client.post(path, json=fresh(model=model)))
    assert (status, kind) == (404, "not_found_error")
    assert f"llmhost models pull {model}" in message


def test_tokens_are_counted_for_either(server: ProxyServer) -> None:
    for model in ("a:1b", "b:1b"):
        counted = server.client.post("/v1/messages/count_tokens", json=ask("how many?", model=model))
        assert counted.json()["input_tokens"] > 0


def test_a_gateway_asks_only_nodes_that_have_it(front: ProxyServer) -> None:
    assert readings(front)["n1"]["models"] == ["a:1b", "b:1b", "claudette:1b"]
    assert readings(front)["n2"]["models"] == ["a:1b"]
    asked = [answered(front.client, fresh(model="b:1b"))[1].headers[NODE] for _ in range(6)]
    assert set(asked) == {"n1"}


def test_an_answer_is_kept_for_the_model_that_gave_it(front: ProxyServer) -> None:
    body = fresh("the same for both")
    for model in ("a:1b", "b:1b"):
        for cache in ("miss", "exact"):
            text, response = answered(front.client, {**body, "model": model})
            assert (text, response.headers["x-llmhost-cache"]) == (f"this is {model}", cache)
    text, response = answered(front.client, {**body, "model": "claude-sonnet-9"})
    assert (text, response.headers["x-llmhost-cache"]) == ("this is a:1b", "exact")


def test_requests_are_counted_under_the_model_that_answered(front: ProxyServer) -> None:
    answered(front.client, fresh(model="b:1b"))
    assert 'llmhost_requests_total{backend="fleet",model="b:1b"' in front.client.get("/metrics").text


def test_a_model_whose_only_node_is_gone_is_unavailable_and_never_replaced() -> None:
    with (
        short_dir() as folder,
        ollama("a:1b", "x:1b") as both,
        ollama("a:1b") as one,
        node(folder, "m1", backend=_backend(both)) as m1,
        node(folder, "m2", backend=_backend(one)) as m2,
        gateway(folder, [m1, m2], timing=replace(CALM, hold=1.0)) as front,
    ):
        wait_until(lambda: "x:1b" in readings(front)["m1"]["models"], "the models of m1", 20)
        assert answered(front.client, fresh(model="x:1b"))[0] == "this is x:1b"
        m1.process.kill()
        m1.process.wait()
        wait_until(lambda: readings(front)["m1"]["state"] == "unreachable", "m1 to be missed", 20)
        status, _kind, _message = error_of(send(front.client, fresh(model="x:1b")))
        assert status in (503, 529)
        assert answered(front.client, fresh())[0] == "this is a:1b"
