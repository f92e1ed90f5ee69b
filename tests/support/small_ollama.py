"""A small Ollama: `/api/version`, `tags`, `show`, `ps`, `pull`, `delete`, `generate` (to unload) and `chat`, with the shapes of 0.24.0.

In a test: `with SmallOllama([Model("qwen3:8b")]) as ollama:`. As a program, to be found as `ollama` (see `install`): it listens on
OLLAMA_HOST, has the models of the JSON file OLLAMA_MODELS names, starts a runner process, and ignores standard input.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).parents[2]
LAYERS = (("sha256:aaaa", 6000), ("sha256:bbbb", 200))


@dataclass
class Model:
    """`loaded` is the window of a running runner, None = not loaded; `says` is its only answer."""

    name: str
    capabilities: list[str] | None = field(default_factory=lambda: ["completion", "tools"])
    parameter_size: str = "8B"
    size: int = 5_000_000_000
    max_context: int = 262_144
    loaded: int | None = None
    template: str = ""
    says: str = "ready"


class SmallOllama:
    """`pulls` maps what can be fetched to the model it becomes; `pull_error` makes every pull fail; `pull_cut` breaks it off.

    `layers` are the files of everything that is pulled: digest and bytes. `unload_status` is what unloading answers.
    """

    def __init__(self, models=(), pulls=None, pull_error=None, pull_cut=False, port=0, layers=LAYERS):
        self.models = {model.name: model for model in models}
        self.pulls = pulls or {}
        self.pull_error = pull_error
        self.pull_cut = pull_cut
        self.layers = layers
        self.unload_status = 200
        self.asked = []
        self.server = ThreadingHTTPServer(("127.0.0.1", port), type("Bound", (Handler,), {"ollama": self}))

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    ollama: SmallOllama

    def do_GET(self):
        self.ollama.asked.append(self.path)
        models = self.ollama.models.values()
        answers = {
            "/api/version": lambda: {"version": "0.24.0"},
            "/api/tags": lambda: {"models": [self.tag(model) for model in models]},
            "/api/ps": lambda: {"models": [{**self.tag(m), "context_length": m.loaded} for m in models if m.loaded]},
        }
        if self.path in answers:
            self.reply(200, answers[self.path]())
        else:
            self.reply(404, {"error": "not found"})

    def do_POST(self):
        self.ollama.asked.append(self.path)
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        model = self.find(body.get("model") or "")
        if self.path == "/api/pull":
            self.pull(body["model"])
        elif self.path == "/api/generate" and model is not None and body.get("keep_alive") == 0:
            model.loaded = None
            self.reply(self.ollama.unload_status, {"done": True, "done_reason": "unload"})
        elif model is None:
            self.reply(404, {"error": f"model '{body.get('model')}' not found"})
        elif self.path == "/api/show":
            self.reply(200, self.show(model))
        elif self.path == "/api/chat":
            self.chat(model, body)
        else:
            self.reply(404, {"error": "not found"})

    def do_DELETE(self):
        self.ollama.asked.append(self.path)
        model = self.find(json.loads(self.rfile.read(int(self.headers["content-length"])))["model"])
        if model is not None:
            del self.ollama.models[model.name]
        self.reply(200 if model else 404, {} if model else {"error": "model not found"})

    def find(self, name):
        return self.ollama.models.get(name) or self.ollama.models.get(f"{name}:latest")

    @staticmethod
    def tag(model):
        details = {"format": "gguf", "family": "qwen3", "parameter_size": model.parameter_size}
        return {"name": model.name, "model": model.name, "size": model.size, "digest": "d" * 64, "details": details}

    @staticmethod
    def show(model):
        shown = {
            "modelfile": f"FROM {model.name}\n",
            "template": model.template,
            "details": {"family": "qwen3", "parameter_size": model.parameter_size},
            "model_info": {"general.architecture": "qwen3", "qwen3.context_length": model.max_context},
        }
        return shown if model.capabilities is None else {**shown, "capabilities": model.capabilities}

    def pull(self, name):
        self.begin_stream()
        if self.ollama.pull_error or name not in self.ollama.pulls:
            self.line({"error": self.ollama.pull_error or "pull model manifest: file does not exist"})
            return
        self.line({"status": "pulling manifest"})
        for digest, total in self.ollama.layers:
            for completed in (0, total // 2, total):
                self.line({"status": f"pulling {digest[7:]}", "digest": digest, "total": total, "completed": completed})
                if self.ollama.pull_cut:
                    return
        self.ollama.models[self.ollama.pulls[name].name] = self.ollama.pulls[name]
        for status in ("verifying sha256 digest", "writing manifest", "success"):
            self.line({"status": status})

    def chat(self, model, body):
        model.loaded = (body.get("options") or {}).get("num_ctx") or model.loaded or 4096
        self.begin_stream()
        said = model.says if body.get("messages") else ""
        created = {"model": model.name, "created_at": "2026-01-01T00:00:00Z"}
        message = {"role": "assistant", "content": said}
        if said and body.get("stream", True):
            self.line({**created, "message": message, "done": False})
            message = {"role": "assistant", "content": ""}
        counts = {"prompt_eval_count": 12, "eval_count": 1, "total_duration": 1, "load_duration": 1, "eval_duration": 1}
        self.line({**created, "message": message, "done": True, "done_reason": "stop" if said else "load", **counts})

    def begin_stream(self):
        self.send_response(200)
        self.send_header("content-type", "application/x-ndjson")
        self.end_headers()

    def line(self, data):
        self.wfile.write(json.dumps(data).encode() + b"\n")
        self.wfile.flush()

    def reply(self, status, data):
        body = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


def install(folder, models, pulls=()):
    """A program `ollama` in `folder` that serves the models; it, and the environment it wants. It writes its pids to `folder`/pids.

    `pulls` are models that can be fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "ollama"
    version = '[ "$1" != --version ] || exec echo "ollama version is 0.24.0"'
    program.write_text(
        f'#!/bin/sh\n{version}\nPYTHONPATH={ROOT} exec {sys.executable} -m tests.support.small_ollama "$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (folder / "models.json").write_text(json.dumps([asdict(model) for model in models]))
    (folder / "pulls.json").write_text(json.dumps([asdict(model) for model in pulls]))
    return program, {"OLLAMA_MODELS": str(folder / "models.json")}


def main():
    assert sys.argv[1:] == ["serve"]
    host, port = os.environ["OLLAMA_HOST"].rsplit(":", 1)
    assert host == "127.0.0.1"
    list_file = Path(os.environ["OLLAMA_MODELS"])
    models = [Model(**entry) for entry in json.loads(list_file.read_text())]
    pulls = [Model(**entry) for entry in json.loads(list_file.with_name("pulls.json").read_text())]
    runner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    draft = list_file.with_name("pids.part")
    draft.write_text(f"{os.getpid()} {runner.pid}")
    draft.replace(list_file.with_name("pids"))
    SmallOllama(models, {model.name: model for model in pulls}, port=int(port)).server.serve_forever(poll_interval=0.02)


if __name__ == "__main__":
    main()
