"""What a node is told, what it makes of it, and what it never shows."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from llmhost.core.errors import LlmhostError
from llmhost.core.server_config import BackendConfig, ServerConfig
from llmhost.node.keep import Keep
from llmhost.node.layout import Layout
from llmhost.node.services import DRAIN_S, Place, ollama_address, specs_of
from llmhost.node.wish import NodeWish, OllamaWish, load_wish, save_json

TOKEN = "a-token-that-nobody-guesses"
SERVER = {"name": "node-n1", "token": TOKEN, "backend": {"kind": "ollama", "model": "qwen3:8b", "node_id": "n1"}}
SERVE = {"mode": "serve", "bin": "/opt/ollama", "env": {"OLLAMA_DEBUG": "1"}, "context": 32_768}


def wish(**fields):
    return NodeWish.from_dict({"server": SERVER, "ollama": SERVE, "tcp": False, "version": "0.1.0", **fields})


def place(**fields):
    facts = {"ports": {"ollama": 4001, "proxy": 4002}, "runs": {}, "models": "/home/u/models", "memory_mb": 64_000}
    return Place(Layout(Path("/home/u/n")), "/usr/bin/python3", "/home/u/n/releases/ab/lib", **{**facts, **fields})


def by_name(specs):
    return {spec.name: spec for spec in specs}


def test_it_survives_being_written_down(tmp_path):
    save_json(tmp_path / "node.json", wish().as_dict())
    assert load_wish(tmp_path / "node.json") == wish()
    assert stat.S_IMODE((tmp_path / "node.json").stat().st_mode) == 0o600
    assert load_wish(tmp_path / "nothing") is None


@pytest.mark.parametrize(
    "bad",
    [
        [],
        {"server": {"name": "n", "token": ""}},
        {"server": {"name": "n", "token": TOKEN, "backend": None}},
        {"server": 5},
        {"ollama": {"mode": "steal"}},
        {"ollama": {"mode": "serve"}},
        {"ollama": {"mode": "use"}},
        {"ollama": ["serve"]},
    ],
)
def test_nonsense_is_refused_without_repeating_it(bad):
    with pytest.raises(LlmhostError) as failed:
        NodeWish.from_dict(bad if isinstance(bad, list) else {"server": SERVER, **bad})
    assert failed.value.code == "bad_wish"
    assert TOKEN not in failed.value.message


def test_what_is_shown_has_no_secret():
    shown = json.dumps(wish().shown())
    assert TOKEN not in shown
    assert TOKEN not in repr(wish())
    assert "qwen3:8b" in shown


def test_without_a_server_the_one_that_was_there_stays():
    first = wish(tcp=True)
    merged = wish(server=None, ollama={"mode": "none"}).merged_over(first)
    assert (merged.server, merged.tcp, merged.ollama) == (SERVER, True, OllamaWish())
    assert wish(server=None).merged_over(None).server is None


def test_ollama_starts_first_with_its_settings_and_the_proxy_knows_where_it_is():
    specs = specs_of(wish(), place(has_gpu=True))
    assert [spec.name for spec in specs] == ["ollama", "proxy"]
    ollama, proxy = specs
    assert ollama.argv[-2:] == ("/opt/ollama", "serve")
    assert "llmhost.supervisor.lifeline" in ollama.argv
    expected = {
        "OLLAMA_HOST": "127.0.0.1:4001",
        "OLLAMA_MODELS": "/home/u/models",
        "OLLAMA_CONTEXT_LENGTH": "32768",
        "OLLAMA_KEEP_ALIVE": "-1",
        "OLLAMA_FLASH_ATTENTION": "1",
        "OLLAMA_KV_CACHE_TYPE": "q8_0",
        "OLLAMA_NUM_PARALLEL": "1",
        "OLLAMA_DEBUG": "1",
        "LLAMA_ARG_CACHE_RAM": "16384",
        "PYTHONPATH": "/home/u/n/releases/ab/lib",
    }
    assert expected.items() <= ollama.env.items()
    assert proxy.config["backend"]["url"] == "http://127.0.0.1:4001"
    assert ServerConfig.from_json(json.dumps(proxy.config)).backend.model == "qwen3:8b"
    assert proxy.grace_s == DRAIN_S


def test_on_a_processor_alone_flash_attention_stays_off():
    env = by_name(specs_of(wish(), place()))["ollama"].env
    assert not {"OLLAMA_FLASH_ATTENTION", "OLLAMA_KV_CACHE_TYPE"} & set(env)


def test_the_users_settings_win_but_not_over_the_address():
    env = {"OLLAMA_KEEP_ALIVE": "5m", "OLLAMA_HOST": "0.0.0.0", "OLLAMA_MODELS": "/data"}
    settled = by_name(specs_of(wish(ollama={**SERVE, "env": env}), place()))["ollama"].env
    assert settled["OLLAMA_KEEP_ALIVE"] == "5m"
    assert settled["OLLAMA_MODELS"] == "/data"
    assert settled["OLLAMA_HOST"] == "127.0.0.1:4001"


def test_no_secret_is_in_a_command_line_or_an_environment():
    for spec in specs_of(wish(), place()):
        assert TOKEN not in json.dumps([spec.argv, spec.env])


def test_a_port_is_only_there_when_asked_for():
    assert by_name(specs_of(wish(tcp=True), place()))["proxy"].config["also_port"] == 4002
    assert by_name(specs_of(wish(), place()))["proxy"].config["also_port"] is None


def test_a_run_number_makes_another_process():
    assert specs_of(wish(), place()) != specs_of(wish(), place(runs={"proxy": 1}))
    assert specs_of(wish(), place(runs={"proxy": 1})) == specs_of(wish(), place(runs={"proxy": 1}))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://127.0.0.1:11434", "127.0.0.1:11434"),
        ("127.0.0.1", "127.0.0.1:11434"),
        ("http://localhost:4000/", "localhost:4000"),
    ],
)
def test_the_address_of_a_server_that_was_there(url, address):
    assert ollama_address(OllamaWish("use", url), {}) == address


def test_a_folder_with_a_long_name_gets_short_sockets(tmp_path):
    near, far = Layout(Path("/home/u/.llmhost/nodes/n1")), Layout(tmp_path / ("x" * 80))
    assert near.run_dir == near.folder / "run"
    assert far.run_dir.parent == Path("/tmp")
    assert len(str(far.proxy_socket)) < 100
    assert far.run_dir != Layout(tmp_path / ("y" * 80)).run_dir


def test_a_port_stays_unless_a_stranger_has_it(tmp_path):
    import socket

    layout = Layout(tmp_path)
    layout.state_dir.mkdir()
    keep = Keep.load(layout)
    port = keep.port("ollama", set())
    keep.save(layout)
    assert Keep.load(layout).port("ollama", set()) == port
    with socket.create_server(("127.0.0.1", port)):
        assert Keep.load(layout).port("ollama", {port}) == port  # it is ours
        assert Keep.load(layout).port("ollama", set()) != port
    layout.keep_file.write_text('{"ports": "nonsense"')
    assert Keep.load(layout) == Keep()


def test_a_server_configuration_of_the_operators_side_is_understood():
    config = ServerConfig("node-n1", TOKEN, BackendConfig("rehearsal", node_id="n1"))
    told = json.loads(config.to_json())
    (proxy,) = specs_of(NodeWish.from_dict({"server": told}), place())
    assert ServerConfig.from_json(json.dumps(proxy.config)).socket == "/home/u/n/run/proxy.sock"
