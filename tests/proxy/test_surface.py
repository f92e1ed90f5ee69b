"""The routes, authentication, and what is said to bad input. Every check runs against a node proxy and against a gateway."""

from __future__ import annotations

import asyncio
import socket

import httpx
import pytest

from tests.proxy.asking import ask, error_of, fresh, send, stream, streamed_text, text_of
from tests.support.proxy_server import ProxyServer


@pytest.fixture(params=["node", "gateway"])
def server(request: pytest.FixtureRequest) -> ProxyServer:
    return request.getfixturevalue(request.param)


def counted(usage: dict[str, int]) -> tuple[int, int]:
    """Prompt and answer tokens; how much of the prompt the engine still had differs from one asking to the next."""
    prompt = usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]
    return prompt, usage["output_tokens"]


@pytest.mark.parametrize("path", ["/", "/api/hello", "/health", "/ready"])
def test_probes_need_no_token(server: ProxyServer, path: str) -> None:
    with server.new_client(secret=None) as client:
        assert client.get(path).status_code == 200
    if path in ("/", "/api/hello"):
        assert server.client.head(path).status_code == 200


def test_health_names_its_components(server: ProxyServer) -> None:
    body = server.client.get("/health").json()
    assert body["status"] == "healthy"
    assert body["components"]["backend"] == "ok"
    assert "cache" in body["components"]


@pytest.mark.parametrize(
    "path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/models", "/internal/status", "/metrics", "/nowhere"]
)
@pytest.mark.parametrize("secret", [None, "wrong", "", "test-token-of-the-prox"])
def test_everything_else_needs_the_token(server: ProxyServer, path: str, secret: str | None) -> None:
    with server.new_client(secret=secret) as client:
        response = client.request(
            "POST" if "messages" in path else "GET", path, json=ask("hi") if "messages" in path else None
        )
    assert error_of(response)[:2] == (401, "authentication_error")
    assert response.headers["x-should-retry"] == "false"


def test_both_ways_to_give_the_token(server: ProxyServer) -> None:
    with server.new_client(secret=None) as client:
        for headers in ({"authorization": f"Bearer {server.config.token}"}, {"x-api-key": server.config.token}):
            assert client.get("/v1/models", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"host": "127.0.0.1.evil.example:8001"}, {"origin": "http://localhost:3000"}]
)
def test_web_pages_are_refused(server: ProxyServer, headers: dict[str, str]) -> None:
    assert error_of(server.client.get("/health", headers=headers))[:2] == (403, "permission_error")


def test_models(server: ProxyServer) -> None:
    listed = server.client.get("/v1/models?limit=1000").json()
    first = listed["data"][0]
    assert first["type"] == "model"
    assert first["lifecycle"] == "active"
    assert first["max_input_tokens"] == 65536
    assert (listed["has_more"], listed["first_id"], listed["last_id"]) == (False, first["id"], listed["data"][-1]["id"])
    assert any(entry["id"].startswith("anthropic") for entry in listed["data"])
    for entry in listed["data"]:
        assert server.client.get(f"/v1/models/{entry['id']}").json() == entry
    assert error_of(server.client.get("/v1/models/gpt-9"))[:2] == (404, "not_found_error")


def test_unknown_model_names_the_command(server: ProxyServer) -> None:
    status, kind, message = error_of(send(server.client, fresh(model="llama-9:70b")))
    assert (status, kind) == (404, "not_found_error")
    assert "llmhost up --model llama-9:70b" in message


@pytest.mark.parametrize("model", ["claude-sonnet-5", "anthropic/x", None])
def test_aliases_stand_for_the_loaded_model_and_are_echoed(server: ProxyServer, model: str | None) -> None:
    body = fresh(model=model)
    assert send(server.client, body).json()["model"] == (model or "rehearsal")


def test_whole_and_streamed_answers_agree(server: ProxyServer) -> None:
    body = fresh()
    whole = send(server.client, body, cache_control="no-store")
    response, events = stream(server.client, body, cache_control="no-store")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert streamed_text(events) == text_of(whole.json())
    usage = next(data["usage"] for name, data in events if name == "message_delta")
    assert counted(usage) == counted(whole.json()["usage"])
    assert set(usage) >= {"input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"}


def test_beta_query_and_unknown_headers_are_no_obstacle(server: ProxyServer) -> None:
    response = server.client.post(
        "/v1/messages?beta=true",
        json=fresh(context_management={"edits": []}, brand_new={"a": 1}),
        headers={"anthropic-beta": "nobody-knows-2027-01-01", "anthropic-version": "2031-01-01", "x-odd": "1"},
    )
    assert response.status_code == 200


def test_every_answer_carries_its_headers(server: ProxyServer) -> None:
    response = send(server.client, fresh())
    assert response.headers["request-id"].startswith("req_")
    assert response.headers["x-llmhost-cache"] in ("miss", "bypass")
    assert "content-encoding" not in response.headers


def test_gateway_names_the_node(gateway: ProxyServer) -> None:
    assert send(gateway.client, fresh()).headers["x-llmhost-node"] == "n1"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"messages": []}',
        b'{"messages": "hi"}',
        b"[]",
        b'{"messages": [{"role": "user", "content": "\xc3"}]}',
    ],
)
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_malformed_bodies(server: ProxyServer, content: bytes, path: str) -> None:
    assert error_of(server.client.post(path, content=content))[:2] == (400, "invalid_request_error")


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
def test_nesting_without_end(server: ProxyServer, path: str) -> None:
    deep = b'{"a":' * 400 + b"1" + b"}" * 400
    body = b'{"messages":[{"role":"user","content":[{"type":"odd","x":' + deep + b"}]}]}"
    assert error_of(server.client.post(path, content=body))[:2] == (400, "invalid_request_error")
    assert server.client.get("/v1/models").status_code == 200


def test_unknown_routes_and_methods_answer_in_the_envelope(server: ProxyServer) -> None:
    assert error_of(server.client.get("/managed/settings"))[0] == 404
    assert error_of(server.client.post("/api/event_logging/batch", json={}))[0] == 404
    assert error_of(server.client.get("/v1/messages"))[0] == 405


def test_a_body_that_announces_too_much_is_refused_unread(server: ProxyServer) -> None:
    raw = socket.socket(socket.AF_UNIX)
    raw.settimeout(10)
    raw.connect(str(server.config.socket))
    raw.sendall(
        f"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nx-api-key: {server.config.token}\r\n"
        f"content-length: {33 * 1024 * 1024}\r\n\r\n".encode()
    )
    answer = b""
    while b"req_" not in answer.partition(b"\r\n\r\n")[2]:
        piece = raw.recv(65536)
        assert piece, answer
        answer += piece
    raw.close()
    assert b"413" in answer.split(b"\r\n", 1)[0]
    assert b"request_too_large" in answer


def test_a_body_that_only_turns_out_too_large(server: ProxyServer) -> None:
    def pieces() -> object:
        for _ in range(34):
            yield b" " * (1024 * 1024)

    try:
        response = server.client.post("/v1/messages", content=pieces())
    except httpx.TransportError:
        return  # the answer was there before all was sent, and the connection closed on the rest
    assert error_of(response)[0] == 413


def test_a_large_prompt_is_a_prompt(server: ProxyServer) -> None:
    status, _, message = error_of(send(server.client, ask("word " * 1_200_000)))
    assert status == 400
    assert message.startswith("prompt is too long: ")
    assert message.endswith("> 65536 maximum")


def test_count_tokens_says_when_it_estimates(server: ProxyServer) -> None:
    response = server.client.post("/v1/messages/count_tokens?beta=true", json=ask("how many " * 50))
    assert response.json()["input_tokens"] > 20
    assert response.headers.get("x-llmhost-estimate") in (None, "true")


def test_thirty_counts_at_once(server: ProxyServer) -> None:
    async def burst() -> list[int]:
        transport = httpx.AsyncHTTPTransport(uds=server.config.socket)
        headers = {"x-api-key": server.config.token}
        async with httpx.AsyncClient(base_url=server.base, transport=transport, headers=headers, timeout=30) as client:
            posts = (client.post("/v1/messages/count_tokens", json=ask("w " * n)) for n in range(1, 31))
            return [response.json()["input_tokens"] for response in await asyncio.gather(*posts)]

    counts = asyncio.run(burst())
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_metrics_speak_prometheus(server: ProxyServer) -> None:
    send(server.client, fresh())
    text = server.client.get("/metrics").text
    assert "llmhost_requests_total{" in text
    assert "llmhost_build_info" in text


def test_the_token_is_nowhere_in_the_log(server: ProxyServer) -> None:
    assert server.config.token not in server.log()
