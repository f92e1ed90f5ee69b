"""What provider `local` chooses, on small Ollama servers."""

from __future__ import annotations

import pytest

from llmhost.core.errors import LlmhostError, Unavailable
from llmhost.providers.base import BackendWish
from llmhost.providers.local import PULL_COMMAND, LocalProvider, serve_environment
from llmhost.providers.ollama_api import OllamaApi
from tests.support.small_ollama import Model, SmallOllama
from tests.support.system import free_port

EMBEDDER = Model("nomic-embed-text:latest", ["embedding"], "137M", 270_000_000, 2048)


def choose(ollama, **wish):
    return LocalProvider(ollama.url).choose(BackendWish(**wish))


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A provider on a machine without Ollama."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return LocalProvider(f"http://127.0.0.1:{free_port()}")


def test_the_recommended_model_is_taken_when_it_is_there():
    with SmallOllama(
        [Model("devstral:70b", parameter_size="70B"), Model("qwen3-coder:30b", parameter_size="30.5B")]
    ) as ollama:
        choice = choose(ollama)
    assert (choice.backend, choice.model, choice.context, choice.notes) == ("ollama", "qwen3-coder:30b", 65_536, ())
    assert choice.spec == {"ollama_url": ollama.url}


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (
            [Model("llama3.3:70b", parameter_size="70.6B"), Model("qwen2.5-coder:7b", parameter_size="7.6B")],
            "qwen2.5-coder:7b",
        ),
        ([Model("qwen3:4b", parameter_size="4.0B"), Model("qwen3:14b", parameter_size="14.8B")], "qwen3:14b"),
        ([Model("gemma:27b", ["completion"], "27B"), Model("qwen3:4b", parameter_size="4.0B")], "qwen3:4b"),
        ([EMBEDDER, Model("smol:latest", parameter_size="900M")], "smol:latest"),
        ([Model("old:latest", None, template="{{ if .Tools }}")], "old:latest"),
    ],
)
def test_without_it_the_best_that_can_call_tools_serves_and_that_is_said(models, expected):
    with SmallOllama(models) as ollama:
        choice = choose(ollama)
    assert choice.model == expected
    assert expected in choice.notes[0]
    assert PULL_COMMAND in choice.notes[0]
    assert not choice.missing


@pytest.mark.parametrize("models", [[], [EMBEDDER], [Model("gemma:2b", ["completion"])]])
def test_no_usable_model_means_rehearsal_and_how_to_get_one(models):
    with SmallOllama(models) as ollama:
        choice = choose(ollama)
        assert (choice.backend, choice.fallback) == ("rehearsal", True)
        assert PULL_COMMAND in choice.notes[0]
        with pytest.raises(Unavailable) as failure:
            choose(ollama, backend="ollama")
    assert failure.value.code == "no_model"


def test_a_model_named_on_the_command_line_is_pulled_when_it_is_absent():
    with SmallOllama([Model("qwen3:8b")]) as ollama:
        choice = choose(ollama, model="qwen3-coder:30b", pull=True)
        assert (choice.model, choice.missing) == ("qwen3-coder:30b", True)
        assert "/api/pull" not in ollama.asked


def test_a_model_named_elsewhere_is_not_pulled():
    with SmallOllama([Model("qwen3:8b")]) as ollama:
        choice = choose(ollama, model="qwen3-coder:30b")
    assert (choice.model, choice.missing) == ("qwen3:8b", False)
    assert "--model qwen3-coder:30b" in choice.notes[0]


def test_a_named_model_is_found_without_its_tag():
    with SmallOllama([Model("qwen3:latest"), Model("qwen3-coder:30b")]) as ollama:
        assert choose(ollama, model="qwen3", pull=True).model == "qwen3:latest"


def test_a_named_model_without_tools_serves_with_a_warning():
    with SmallOllama([Model("gemma:27b", ["completion"])]) as ollama:
        choice = choose(ollama, model="gemma:27b", pull=True)
    assert choice.model == "gemma:27b"
    assert "cannot call tools" in choice.notes[0]


@pytest.mark.parametrize(
    ("model", "wished", "expected", "warned"),
    [
        (Model("m:1"), None, 65_536, False),
        (Model("m:1"), 131_072, 131_072, False),
        (Model("m:1", loaded=100_000), None, 100_000, False),
        (Model("m:1", loaded=100_000), 70_000, 70_000, False),
        (Model("m:1", loaded=4096), None, 4096, True),
        (Model("m:1", max_context=40_960), None, 40_960, True),
        (Model("m:1", max_context=40_960), 65_536, 40_960, True),
        (Model("m:1"), 32_768, 32_768, True),
    ],
)
def test_the_window(model, wished, expected, warned):
    with SmallOllama([model]) as ollama:
        choice = choose(ollama, model="m:1", context=wished)
    assert choice.context == expected
    assert any("too small for Claude Code" in note for note in choice.notes) == warned


def test_without_ollama_it_is_a_rehearsal_and_the_plan_says_how_to_change_that(nowhere):
    choice = nowhere.choose(BackendWish())
    assert (choice.backend, choice.model, choice.fallback) == ("rehearsal", None, True)
    assert PULL_COMMAND in choice.notes[0]


@pytest.mark.parametrize("wish", [BackendWish(backend="ollama"), BackendWish(model="qwen3-coder:30b", pull=True)])
def test_what_needs_ollama_fails_without_it_and_names_the_ways_out(nowhere, wish):
    with pytest.raises(Unavailable) as failure:
        nowhere.choose(wish)
    assert failure.value.exit_code == 5
    assert failure.value.code == "ollama_missing"
    assert "--backend rehearsal" in failure.value.hint


def test_rehearsal_asked_for_by_name_asks_nobody():
    with SmallOllama([Model("qwen3:8b")]) as ollama:
        choice = choose(ollama, backend="rehearsal", context=100_000)
        assert ollama.asked == []
    assert (choice.backend, choice.context, choice.fallback, choice.notes) == ("rehearsal", 100_000, False, ())


def test_an_installed_ollama_will_be_started(tmp_path, monkeypatch):
    program = tmp_path / "ollama"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    url = f"http://127.0.0.1:{free_port()}"
    choice = LocalProvider(url).choose(BackendWish())
    assert (choice.backend, choice.pending, choice.spec["ollama_bin"]) == ("ollama", True, str(program))
    assert url.endswith(choice.spec["ollama_env"]["OLLAMA_HOST"])


def test_an_ollama_on_another_machine_is_never_started_here(tmp_path, monkeypatch):
    program = tmp_path / "ollama"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert LocalProvider("http://ollama.invalid:11434").choose(BackendWish()).backend == "rehearsal"


def test_the_users_own_ollama_settings_win_but_not_the_address_nor_a_key():
    given = {"OLLAMA_KEEP_ALIVE": "5m", "OLLAMA_HOST": "0.0.0.0", "OLLAMA_API_KEY": "secret", "HOME": "/x"}
    made = serve_environment("http://127.0.0.1:11434", 70_000, True, given)
    assert made["OLLAMA_KEEP_ALIVE"] == "5m"
    assert made["OLLAMA_HOST"] == "127.0.0.1:11434"
    assert made["OLLAMA_CONTEXT_LENGTH"] == "70000"
    assert made["OLLAMA_KV_CACHE_TYPE"] == "q8_0"
    assert "OLLAMA_API_KEY" not in made
    assert "HOME" not in made
    assert "OLLAMA_FLASH_ATTENTION" not in serve_environment("http://127.0.0.1:11434", None, False, {})


def test_a_pull_tells_its_bytes_over_all_files():
    told = []
    with SmallOllama(pulls={"new:1b": Model("new:1b")}) as ollama:
        OllamaApi(ollama.url).pull("new:1b", lambda *what: told.append(what))
        assert "new:1b" in ollama.models
    transfers = [(done, total) for what, done, total in told if what == "pulling"]
    assert transfers == [(0, 6000), (3000, 6000), (6000, 6000), (6000, 6200), (6100, 6200), (6200, 6200)]
    assert told[-1][0] == "success"


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ({}, "file does not exist"),
        ({"pull_error": "no space left on device"}, "no space left on device"),
        ({"pull_cut": True, "pulls": {"new:1b": Model("new:1b")}}, "before it was complete"),
    ],
)
def test_a_failed_pull_says_why_and_what_to_do(server, says):
    with SmallOllama(**server) as ollama, pytest.raises(LlmhostError) as failure:
        OllamaApi(ollama.url).pull("new:1b", lambda *_: None)
    assert failure.value.code == "pull_failed"
    assert says in failure.value.message
    assert "new:1b" in failure.value.message
    assert failure.value.hint


def test_a_server_that_is_not_ollama_counts_as_none():
    import http.server

    with SmallOllama() as ollama:
        ollama.server.RequestHandlerClass = type("Other", (http.server.BaseHTTPRequestHandler,), {})
        assert not OllamaApi(ollama.url).answers()
