"""What an operator's machine and a node tell of themselves, and where they listen."""

from __future__ import annotations

import json
import os
import socket
import stat
from dataclasses import asdict
from pathlib import Path

import httpx
import pytest

from tests.proxy.asking import error_of, fresh, send
from tests.proxy.fleets import changed, config_of, gateway, node, put_nodes, readings, states
from tests.proxy.test_metrics import exported
from tests.support.proxy_server import TOKEN, ProxyServer, proxy
from tests.support.system import free_port, wait_until

GOOD = {"id": "n1", "url": "unix:/tmp/x", "token": "a-secret"}


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"[]",
        b"no json",
        b"{}",
        b'{"nodes": {}}',
        b'{"nodes": 3}',
        b'{"nodes": ["n1"]}',
        json.dumps({"nodes": [GOOD, GOOD]}).encode(),
        *(
            json.dumps({"nodes": [GOOD | wrong]}).encode()
            for wrong in (
                {"id": ""},
                {"url": "ftp://x"},
                {"token": None},
                {"parallel": 0},
                {"parallel": "2"},
                {"draining": "yes"},
                {"trouble": "broken"},
                {"trouble": ["code"]},
            )
        ),
    ],
)
def test_a_list_of_nodes_of_another_shape_is_refused_and_changes_nothing(fleet: ProxyServer, sent: bytes) -> None:
    before = readings(fleet).keys()
    response = fleet.client.put("/internal/nodes", content=sent)
    status, kind, message = error_of(response)
    assert (status, kind) == (400, "invalid_request_error")
    assert "a-secret" not in message
    assert readings(fleet).keys() == before


@pytest.fixture(scope="module")
def fleet(node: ProxyServer) -> ProxyServer:
    with gateway(node.log_file.parent, [node]) as server:
        yield server


def test_nodes_are_set_only_with_the_token_and_never_by_a_web_page(fleet: ProxyServer) -> None:
    with fleet.new_client(None) as stranger:
        assert stranger.put("/internal/nodes", json={"nodes": []}).status_code == 401
    assert fleet.client.put("/internal/nodes", json={"nodes": []}, headers={"origin": "http://evil"}).status_code == 403
    assert fleet.client.put("/internal/nodes", json={"nodes": []}, headers={"host": "evil.example"}).status_code == 403
    assert readings(fleet)


def test_a_node_has_no_nodes(node: ProxyServer) -> None:
    assert error_of(put_nodes(node, []))[0] == 404
    assert "nodes" not in node.status()


def test_the_gateway_tells_of_each_node_and_never_its_token(fleet: ProxyServer, node: ProxyServer) -> None:
    reading = readings(fleet)["n1"]
    assert {name: reading[name] for name in ("state", "in_flight", "breaker", "model")} == {
        "state": "ready",
        "in_flight": 0,
        "breaker": "closed",
        "model": "rehearsal",
    }
    assert reading["since"].startswith("20")
    assert TOKEN not in json.dumps(fleet.status())
    extra = asdict(changed(node, parallel=3)) | {"of_a_later_version": 1}
    assert fleet.client.put("/internal/nodes", json={"nodes": [extra]}).json() == {"nodes": 1}


def test_metrics_have_a_label_for_each_node_that_is_there(fleet: ProxyServer, node: ProxyServer) -> None:
    gone = config_of(node, id="gone", url="unix:/tmp/none-such", token="t")
    put_nodes(fleet, [config_of(node), gone])
    send(fleet.client, fresh())
    figures = exported(fleet)
    assert figures['llmhost_backend_up{node="n1"}'] == 1
    assert figures['llmhost_backend_up{node="gone"}'] == 0
    assert figures['llmhost_backend_inflight{node="n1"}'] == 0
    assert figures['llmhost_node_requests_total{node="n1",outcome="ok"}'] >= 1
    put_nodes(fleet, [config_of(node)])
    assert not [name for name in exported(fleet) if "gone" in name]


def test_prefix_reuse_is_the_sum_of_the_nodes(fleet: ProxyServer, node: ProxyServer) -> None:
    send(fleet.client, fresh())
    total = node.status()["prefix"]["prompt_tokens"]
    assert total > 0
    wait_until(lambda: fleet.status()["prefix"]["prompt_tokens"] >= total, "the gateway to have asked")


def test_a_server_listens_on_a_port_beside_its_socket(folder: Path) -> None:
    with proxy(folder, name="both", also_port=0) as server:
        port = server.status()["also_port"]
        assert f'"also_port": {port}' in server.log()
        url = f"http://127.0.0.1:{port}"
        assert httpx.get(f"{url}/ready").status_code == 200
        assert httpx.get(f"{url}/internal/status").status_code == 401
        answer = httpx.post(f"{url}/v1/messages", json=fresh(), headers={"x-api-key": TOKEN})
        assert answer.status_code == 200
        assert httpx.get(f"{url}/ready", headers={"host": "evil.example"}).status_code == 403
        with socket.socket() as outside:
            outside.settimeout(1)
            assert outside.connect_ex(("127.0.0.2", port)) != 0, "only on 127.0.0.1"


def test_a_port_asked_for_that_is_taken_is_an_error(folder: Path) -> None:
    port = free_port()
    with proxy(folder, name="first", also_port=port) as first:
        assert first.status()["also_port"] == port
        config = first.config
        second = ProxyServer(
            type(config)("second", TOKEN, config.backend, socket=str(folder / "second.sock"), also_port=port), folder
        )
        assert second.process.wait(20) == 1
        second.stop()
        assert "cannot listen" in second.log()
        assert not (folder / "second.sock").exists()


def test_a_node_tells_of_its_graphics_card(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 4090, 83, 22100, 24564'\n")
    program.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    with node(folder, "n1", gpu=True) as server:
        told = wait_until(lambda: server.status()["gpu"], "the first look at the card")
        assert told == {"gpu": "RTX 4090", "gpu_util": 0.83, "vram_used_mb": 22100, "vram_total_mb": 24564}
        with gateway(folder, [server]) as before:
            assert "gpu" not in before.status()
            assert states(before) == {"n1": "ready"}
