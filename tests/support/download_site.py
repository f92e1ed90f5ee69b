"""Stands in for what a node downloads from: Ollama's model registry, and the site of its program archives.

The registry speaks the part of the protocol that Ollama 0.24.0 uses for a pull: a manifest by name, blobs by digest with Range; a GET of a
blob is redirected to another host name (here `localhost`), because Ollama wants to be told where the bytes really are.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

CHUNK = 65_536


class DownloadSite:
    """Serves the models in `models` (an Ollama's own folder, blobs and manifests) and `files` by path.

    `cut` is how many bodies are broken off in the middle before the rest are whole; `stall` an event: bodies stop in the middle until it is
    set. `asked` has "METHOD path range".
    """

    def __init__(self, models: Path | None = None):
        self.models = models
        self.files: dict[str, Path] = {}
        self.cut = 0
        self.stall: threading.Event | None = None
        self.asked: list[str] = []
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"site": self}))
        self.server.daemon_threads = True

    @property
    def port(self):
        return self.server.server_address[1]

    @property
    def downloads(self):
        """What LLMHOST_OLLAMA_SITE is to be."""
        return f"http://127.0.0.1:{self.port}/download"

    def model(self, name):
        """The name by which a node pulls a model from here."""
        return f"127.0.0.1:{self.port}/library/{name}"

    def publish(self, folder, program, kind, machine="amd64"):
        """Offer a program as Ollama's archive of this kind (`tar.zst` or `tgz`)."""
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:gz" if kind == "tgz" else "w") as archive:
            archive.add(program, "bin/ollama")
            library = tarfile.TarInfo("lib/ollama/libnothing.so")
            archive.addfile(library, io.BytesIO())
        data = content.getvalue()
        if kind == "tar.zst":
            packer = shutil.which("zstd")
            assert packer, "install Debian's package zstd"
            data = subprocess.run([packer, "-1", "-c"], input=data, capture_output=True, check=True).stdout
        file = folder / f"ollama-linux-{machine}.{kind}"
        file.write_bytes(data)
        self.files[f"/download/{file.name}"] = file

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()
        return self

    def __exit__(self, *_):
        if self.stall:
            self.stall.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def find(self, path):
        """The file behind a path; None when there is none."""
        if path in self.files:
            return self.files[path]
        if self.models is None:
            return None
        if manifest := re.fullmatch(r"/v2/(\S+)/manifests/(\S+)", path):
            return next(iter(self.models.glob(f"manifests/*/{manifest[1]}/{manifest[2]}")), None)
        if blob := re.fullmatch(r"(?:/v2/\S+/blobs|/bytes)/sha256:([0-9a-f]{64})", path):
            file = self.models / "blobs" / f"sha256-{blob[1]}"
            return file if file.exists() else None
        return None

    def broken(self):
        """Whether this body is to be broken off."""
        with self.lock:
            self.cut -= 1
            return self.cut >= 0


class Handler(BaseHTTPRequestHandler):
    site: DownloadSite
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        path = urlsplit(self.path).path
        self.site.asked.append(f"{self.command} {path} {self.headers.get('range') or ''}".strip())
        file = self.site.find(path)
        if file is None:
            self.reply(404, 0)
        elif with_body and path.startswith("/v2/") and "/blobs/" in path:
            self.reply(307, 0, location=f"http://localhost:{self.site.port}/bytes/{path.rpartition('/')[2]}")
        else:
            self.send_file(file, with_body)

    def send_file(self, file, with_body):
        size = file.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("range") or "")
        first, last = (int(wanted[1]), int(wanted[2] or size - 1)) if wanted else (0, size - 1)
        last = min(last, size - 1)
        if first > last and size:
            self.reply(416, 0)
            return
        span = {"content-range": f"bytes {first}-{last}/{size}"} if wanted else {}
        self.reply(206 if wanted else 200, last - first + 1, **span)
        if with_body:
            self.send_body(file, first, last - first + 1)

    def send_body(self, file, first, length):
        bytes_like = length > 1_000  # manifests and licences are not what breaks
        broken = bytes_like and self.site.broken()
        with file.open("rb") as content:
            content.seek(first)
            self.copy(content, length // 2)
            if broken:
                self.close_connection = True
                return
            if bytes_like and self.site.stall:
                self.wfile.flush()
                self.site.stall.wait(60)
            self.copy(content, length - length // 2)

    def copy(self, content, length):
        while length and (data := content.read(min(CHUNK, length))):
            self.wfile.write(data)
            length -= len(data)

    def reply(self, status, length, **headers):
        self.send_response(status)
        self.send_header("content-length", str(length))
        self.send_header("accept-ranges", "bytes")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def handle(self):
        with suppress(BrokenPipeError, ConnectionResetError):  # whoever downloaded gave up
            super().handle()

    def log_message(self, format, *args):
        pass
