"""A local fleet on (a small) Ollama: found, started by us, pulled into, and ended with everything it started."""

from __future__ import annotations

import os
import signal

import pytest

from llmhost.core.errors import LlmhostError
from llmhost.fleet.down import Ending, down
from llmhost.fleet.plan import UpRequest, make_plan
from llmhost.fleet.status import status
from llmhost.fleet.up import up
from llmhost.supervisor.process import alive, wait_gone
from tests.support.small_ollama import Model, SmallOllama, install
from tests.support.system import free_port, processes_touching, wait_until
from tests.support.told import Told

CODER = Model("qwen3-coder:30b", parameter_size="30.5B")


def bring_up(place, told=None, **flags):
    settings = place.settings(**flags)
    return up(make_plan(UpRequest(), settings, place.paths), settings, place.paths, told or Told())


def take_down(place):
    return down(place.settings(), place.paths, Ending("default"), Told())


@pytest.fixture
def installed(place, monkeypatch):
    """A machine with an `ollama` on PATH that does not run. Yields the flags, and the file with its process ids."""
    program, environ = install(place.root / "bin", [CODER])
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    flags = {"ollama_bin": str(program), "ollama_host": f"127.0.0.1:{free_port()}", "gateway_port": free_port()}
    return flags, place.root / "bin" / "pids"


def pids_in(file):
    return [int(pid) for pid in file.read_text().split()]


def test_an_ollama_that_answers_is_used_and_left_running(place):
    with SmallOllama([CODER]) as ollama:
        result = bring_up(place, ollama_host=ollama.url, gateway_port=free_port())
        assert result.data["nodes"][0]["model"] == "qwen3-coder:30b"
        assert result.data["nodes"][0]["context"] == 65_536
        assert result.data["nodes"][0]["health"] == {"ssh": None, "ollama": "ok", "model": "ok", "proxy": "ok"}
        assert result.data["proof"]["text"] == "ready"
        assert result.data["did"]["started"] == ["node-n1", "gateway"]
        again = bring_up(place, ollama_host=ollama.url)
        assert (again.data["changed"], again.data["plan"]["why"]) == (False, "it serves already")
        take_down(place)


def test_a_model_asked_for_by_name_is_pulled_with_its_bytes_told(place):
    with SmallOllama([Model("qwen3:8b")], pulls={"new:1b": Model("new:1b")}) as ollama:
        told = Told()
        result = bring_up(place, told, ollama_host=ollama.url, gateway_port=free_port(), model="new:1b")
        assert result.data["gateway"]["model"] == "new:1b"
        assert "pull" in told.phases
        assert (3000, 6000) in told.transfers
        assert told.transfers[-1] == (6200, 6200)
        take_down(place)


def test_a_pull_that_fails_leaves_nothing_up(place):
    with SmallOllama([Model("qwen3:8b")]) as ollama, pytest.raises(LlmhostError) as failure:
        bring_up(place, ollama_host=ollama.url, gateway_port=free_port(), model="nosuch:1b")
    assert failure.value.code == "pull_failed"
    assert status(place.settings(), place.paths, "default").data["fleet"]["nodes"] == []
    assert processes_touching(place.root) == {}


def test_another_model_replaces_the_node_and_keeps_the_port(place):
    with SmallOllama([CODER, Model("qwen3:8b")]) as ollama:
        first = bring_up(place, ollama_host=ollama.url, gateway_port=free_port())
        second = bring_up(place, ollama_host=ollama.url, model="qwen3:8b")
        assert second.data["did"]["replaced"] == ["node-n1"], "the gateway is told of it and goes on"
        assert second.data["gateway"]["model"] == "qwen3:8b"
        assert second.data["gateway"]["url"] == first.data["gateway"]["url"]
        take_down(place)


def test_a_rehearsal_for_want_of_a_model_becomes_real_at_the_next_up(place):
    with SmallOllama() as ollama:
        first = bring_up(place, ollama_host=ollama.url, gateway_port=free_port())
        assert first.data["nodes"][0]["backend"] == "rehearsal"
        assert "--model qwen3-coder:30b" in first.warnings[0]
        ollama.models[CODER.name] = CODER
        assert bring_up(place, ollama_host=ollama.url).data["nodes"][0]["model"] == "qwen3-coder:30b"
        take_down(place)


def test_a_small_window_is_warned_of_and_advised_on(place):
    with SmallOllama([CODER]) as ollama:
        result = bring_up(place, ollama_host=ollama.url, gateway_port=free_port(), context=16_384)
        assert "too small for Claude Code" in result.warnings[0]
        advice = status(place.settings(), place.paths, "default").data["advice"]
        assert [(one["code"], one["command"]) for one in advice] == [
            ("small_context", "llmhost up --provider local --context 65536")
        ]
        take_down(place)


def test_an_installed_ollama_is_started_used_kept_and_stopped(place, installed):
    flags, pids = installed
    told = Told()
    result = bring_up(place, told, **flags)
    assert "ollama" in told.phases
    assert result.data["plan"]["starts_ollama"] is True
    assert result.data["nodes"][0]["model"] == "qwen3-coder:30b"
    assert all(alive(pid) for pid in pids_in(pids))
    before = [child["pid"] for child in place.children()]
    assert [child["name"] for child in place.children()] == ["ollama", "node-n1", "gateway"]
    again = bring_up(place, **flags)
    assert again.data["changed"] is False
    assert [child["pid"] for child in place.children()] == before
    take_down(place)
    assert wait_gone(pids_in(pids), 1) == []
    assert processes_touching(place.root) == {}


def test_an_ollama_we_started_and_its_runner_end_with_a_killed_supervisor(place, installed):
    flags, pids = installed
    bring_up(place, **flags)
    os.kill(place.supervisor_pid(), signal.SIGKILL)
    assert wait_gone(pids_in(pids), 6) == []


def test_an_ollama_that_crashes_is_started_again_and_its_runner_is_not_left_over(place, installed):
    flags, pids = installed
    bring_up(place, **flags)
    server, runner = pids_in(pids)
    os.kill(server, signal.SIGKILL)
    assert wait_gone([runner], 6) == []
    wait_until(
        lambda: place.child("ollama")["state"] == "up" and place.child("ollama")["restarts"] == 1, "a new Ollama"
    )
    assert place.child("ollama")["reason"].startswith("exited with code 137")


def test_a_killed_wrapper_takes_ollama_with_it(place, installed):
    flags, pids = installed
    bring_up(place, **flags)
    os.kill(place.child("ollama")["pid"], signal.SIGKILL)
    assert wait_gone(pids_in(pids), 3) == []


def test_an_ollama_that_does_not_start_ends_with_7_and_its_log(place, installed):
    flags, _pids = installed
    broken = place.root / "bin" / "broken"
    broken.write_text("#!/bin/sh\necho 'no space left for the models' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(LlmhostError) as failure:
        bring_up(place, **{**flags, "ollama_bin": str(broken), "ready_timeout_s": 1})
    assert failure.value.exit_code == 7
    assert "no space left for the models" in failure.value.message
    assert processes_touching(place.root) == {}
