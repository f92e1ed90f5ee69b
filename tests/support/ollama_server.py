"""A real `ollama serve` of our own, with a scripted model, and what its log tells of each request.

With `OLLAMA_DEBUG=1` Ollama logs for each request how many tokens its slot held, how many the prompt has, how many it used again and how
many it really had to read: the exact account of prefix reuse.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import signal
import subprocess
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import scripted_gguf
from tests.support.build_ollama import CannotBuild, cache_dir, ollama_binary
from tests.support.system import missing, wait_until

SLOT = re.compile(r'msg="loading cache slot" id=(\d+) cache=(\d+) prompt=(\d+) used=(\d+) remaining=(\d+)')
LOADED = re.compile(r'msg="starting runner" cmd="[^"]* --model ')
LISTENING = re.compile(r"Listening on ([\d.]+):(\d+) ")


@dataclass(frozen=True)
class SlotLoad:
    """One prompt as the engine took it, in tokens: what the slot `held` before, the prompt, what of it was there already (`used`), and what
    had to be read (`remaining`)."""

    held: int
    prompt: int
    used: int
    remaining: int


def scripted_model(scripts: scripted_gguf.Scripts, context: int = 131_072) -> Path:
    """The GGUF file that plays these scripts, made once and kept."""
    source = Path(scripted_gguf.__file__).read_bytes()
    name = hashlib.sha256(source + json.dumps([scripts, context]).encode()).hexdigest()[:16]
    path = cache_dir() / "models" / f"{name}.gguf"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.part")
        scripted_gguf.write_model(draft, scripts, context)
        os.replace(draft, path)
    return path


def _program() -> str:
    try:
        return str(ollama_binary())
    except CannotBuild as error:
        missing("Ollama", str(error))


class OllamaServer:
    """One server process. `folder` holds its home, its models and its log; starting it again in the same folder finds the same models."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.log = folder / "ollama.log"
        self.port = 0
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> OllamaServer:
        """Start, on the port of the last time if there was one, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        seen = self.mark()
        with open(self.log, "ab") as log:
            # Its own session: the engine is a child of the server and must end with it.
            self._process = subprocess.Popen(
                [_program(), "serve"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        atexit.register(self.stop)
        self.port = int(wait_until(lambda: LISTENING.search(self.text(seen)), "Ollama to say where it listens")[2])
        return self

    def stop(self) -> None:
        """End the server and its engine at once, as a crash or a power cut would."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        atexit.unregister(self.stop)

    def create(self, name: str, model: Path, **fields: Any) -> None:
        """Make a model under a name. `fields`: renderer, parser, parameters, template, … of `/api/create`."""
        content = model.read_bytes()
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        # Of content it has, Ollama wants nothing: it answers before all is sent.
        if not (self.folder / "models" / "blobs" / digest.replace(":", "-")).exists():
            self._send("POST", f"/api/blobs/{digest}", content)
        body = {
            "model": name,
            "files": {"model.gguf": digest},
            "stream": False,
            "parameters": {"temperature": 0},
            **fields,
        }
        self._send("POST", "/api/create", json.dumps(body).encode())

    def delete(self, name: str) -> None:
        """Take a model off the disk, and out of memory."""
        self.ask("/api/generate", {"model": name, "keep_alive": 0})
        self._send("DELETE", "/api/delete", json.dumps({"model": name}).encode())

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """One plain request of the test's own: GET without a body, else POST."""
        return json.loads(
            self._send("GET" if body is None else "POST", path, json.dumps(body).encode() if body else None)
        )

    def mark(self) -> int:
        """A place in the log, to look from there on."""
        return self.log.stat().st_size if self.log.exists() else 0

    def text(self, since: int = 0) -> str:
        """The log from a mark on."""
        with open(self.log, "rb") as log:
            log.seek(since)
            return log.read().decode("utf-8", "replace")

    def slots(self, since: int = 0) -> list[SlotLoad]:
        """The prompts the engine took since a mark, in order."""
        return [SlotLoad(*map(int, m.group(2, 3, 4, 5))) for m in SLOT.finditer(self.text(since))]

    def loads(self, since: int = 0) -> int:
        """How often a model was loaded into memory since a mark."""
        return len(LOADED.findall(self.text(since)))

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.folder),
            "OLLAMA_HOST": f"127.0.0.1:{self.port}",
            "OLLAMA_MODELS": str(self.folder / "models"),
            "OLLAMA_DEBUG": "1",
            "OLLAMA_CONTEXT_LENGTH": "32768",
            "OLLAMA_FLASH_ATTENTION": "0",  # on a CPU it doubles the time a prompt takes
            "OLLAMA_KEEP_ALIVE": "-1",
            "OLLAMA_NO_CLOUD": "1",
            "OLLAMA_NOPRUNE": "1",
            **self._settings,
        }

    def _send(self, method: str, path: str, data: bytes | None) -> bytes:
        request = urllib.request.Request(self.url + path, data, {"content-type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return bytes(response.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()!r}") from error
