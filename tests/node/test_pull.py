"""Pulling a model: what is told, what is tried again, what is not, and what each failure is called."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llmhost.core.errors import LlmhostError, Unavailable
from llmhost.node.ollama_models import installed, remove
from llmhost.node.pull import TRIES, Puller, _is_local
from tests.support.small_ollama import Model, SmallOllama
from tests.support.system import free_port

NEW = {"new:1b": Model("new:1b")}


def puller(url, model="new:1b", **more):
    told = []
    return Puller(url.removeprefix("http://"), model, told.append, **{"pause_s": 0.01, **more}), told


def failure(url, **more):
    with pytest.raises(LlmhostError) as failed:
        puller(url, **more)[0].run()
    return failed.value


def test_progress_is_told_over_all_files():
    with SmallOllama(pulls=NEW) as ollama:
        pull, told = puller(ollama.url)
        assert pull.run() is True
        assert told[0]["status"] == "pulling manifest"
        assert max(line["completed"] for line in told) <= 6_200
        assert [line["completed"] for line in told] == sorted(line["completed"] for line in told)
        assert pull.run() is False  # it is there now
        assert ollama.asked.count("/api/pull") == 1


def test_a_model_that_is_there_is_not_pulled_whatever_its_tag():
    with SmallOllama([Model("old:latest")]) as ollama:
        assert puller(ollama.url, "old")[0].run() is False


@pytest.mark.parametrize(
    ("said", "code", "tries"),
    [
        ("pull model manifest: file does not exist", "model_unknown", 1),
        ("invalid model name", "model_unknown", 1),
        ("write /x/blobs/sha256-aa-partial: no space left on device", "disk_full", 1),
        ("unauthorized", "pull_failed", 1),
        ("dial tcp: lookup registry.example: no such host", "node_offline", TRIES),
        ("max retries exceeded: EOF", "pull_failed", TRIES),
    ],
)
def test_each_failure_has_a_name_and_only_some_are_tried_again(said, code, tries):
    with SmallOllama(pull_error=said) as ollama:
        error = failure(ollama.url)
        assert error.code == code
        assert "new:1b" in error.message
        assert ollama.asked.count("/api/pull") == tries
    assert isinstance(error, Unavailable) is (code == "node_offline")


def test_a_connection_that_breaks_is_tried_again_and_then_given_up():
    with SmallOllama(pulls=NEW, pull_cut=True) as ollama:
        error = failure(ollama.url)
        assert (error.code, "ended before it was complete" in error.message) == ("pull_failed", True)
        assert ollama.asked.count("/api/pull") == TRIES


def test_no_ollama_at_all():
    assert failure(f"http://127.0.0.1:{free_port()}").code == "ollama_unavailable"


@contextmanager
def stalling(bodies):
    """A server whose pulls come from `bodies` in turn: lists of lines, then it repeats the last for ever, ends, or is `silent`."""
    done = threading.Event()
    pulls = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.answer(b'{"models": []}\n')

        def do_POST(self):
            pulls.append(self.path)
            lines, forever = bodies[min(len(pulls), len(bodies)) - 1]
            self.answer(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
            while forever and not done.wait(0.02):
                if forever == "silent":
                    continue
                try:
                    self.wfile.write(json.dumps(lines[-1]).encode() + b"\n")
                except OSError:
                    return

        def answer(self, body):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", pulls
    finally:
        done.set()
        server.shutdown()
        server.server_close()
        thread.join()


def at(completed):
    return {"status": "pulling aaaa", "digest": "sha256:aaaa", "total": 1000, "completed": completed}


def test_a_transfer_that_stands_still_is_begun_again_where_it_was():
    whole = ([at(600), at(1000), {"status": "success"}], False)
    with stalling([([at(0), at(500)], True), whole]) as (url, pulls):
        pull, told = puller(url, stall_s=0.3)
        assert pull.run() is True
        assert len(pulls) == 2
        assert max(line["completed"] for line in told) >= 500


def test_progress_between_the_breaks_is_patience_without_end():
    steps = [([at(number * 100)], False) for number in range(1, 9)]
    with stalling([*steps, ([at(1000), {"status": "success"}], False)]) as (url, pulls):
        assert puller(url)[0].run() is True
        assert len(pulls) == 9 > TRIES


def test_one_that_stands_still_for_ever_is_given_up():
    with stalling([([at(500)], True)]) as (url, pulls):
        error = failure(url, stall_s=0.2)
        assert (error.code, "nothing arrived" in error.message) == ("pull_failed", True)
        assert len(pulls) in (TRIES, TRIES + 1)  # the first one had moved


@pytest.mark.parametrize(
    ("model", "local"),
    [
        ("127.0.0.1:5000/library/x", True),
        ("localhost:5000/library/x", True),
        ("http://127.0.0.1:5000/library/x:1b", True),
        ("qwen3-coder:30b", False),
        ("user/model", False),
        ("registry.example/user/model", False),
        ("10.0.0.7:5000/library/x", False),
    ],
)
def test_only_a_registry_on_the_machine_itself_needs_no_tls(model, local):
    assert _is_local(model) is local


def test_the_models_with_what_they_can_do():
    models = [
        Model("qwen3:8b", loaded=32_768),
        Model("old:1b", capabilities=None, template="{{ .Tools }}", parameter_size="500M"),
    ]
    with SmallOllama(models) as ollama:
        first, second = installed(ollama.url.removeprefix("http://"))
    assert first == {
        "name": "qwen3:8b",
        "size": 5_000_000_000,
        "parameters": 8.0,
        "chat": True,
        "tools": True,
        "max_context": 262_144,
        "loaded_context": 32_768,
        "loaded_size": 5_000_000_000,
        "loaded_vram": None,
    }
    assert (second["tools"], second["parameters"], second["loaded_context"]) == (True, 0.5, None)


def test_what_cannot_fit_is_refused_at_its_first_byte():
    with SmallOllama(pulls=NEW) as ollama:
        error = failure(ollama.url, free=lambda: 5_000)
        assert (error.code, error.exit_code) == ("model_too_big", 3)
        assert ollama.asked.count("/api/pull") == 1
        ollama.models.clear()  # it does not notice that nobody listens any more
        assert puller(ollama.url, free=lambda: 10**12)[0].run() is True


def test_a_model_is_deleted_once_and_out_of_memory_too():
    with SmallOllama([Model("old:latest", size=7, loaded=4096)]) as ollama:
        address = ollama.url.removeprefix("http://")
        assert remove(address, "Old") == {"removed": True, "freed": 7}
        assert ollama.asked[-2:] == ["/api/generate", "/api/delete"]
        assert remove(address, "old") == {"removed": False, "freed": 0}
    with pytest.raises(Unavailable):
        remove(address, "old")
