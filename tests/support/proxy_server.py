"""Runs `python -m llmhost.proxy` as the supervisor does, and talks to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from llmhost.core.server_config import BackendConfig, CacheConfig, ServerConfig, Timing

TOKEN = "test-token-of-the-proxy"
START_LIMIT_S = 20.0
REHEARSAL = BackendConfig("rehearsal")
NO_CACHE = CacheConfig(enabled=False)


class ProxyServer:
    """A running server process; `socket` is where it listens, `client` talks to it with the token."""

    def __init__(self, config: ServerConfig, folder: Path, *, secret: str = TOKEN) -> None:
        self.config = config
        self.log_file = folder / f"{config.name}.log"
        self._log = self.log_file.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llmhost.proxy"], stdin=subprocess.PIPE, stderr=self._log, stdout=self._log
        )
        assert self.process.stdin is not None
        self.process.stdin.write(config.to_json().encode() + b"\n")
        self.process.stdin.flush()
        self.client = self.new_client(secret)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.config.port}" if self.config.port else "http://localhost"

    @property
    def upstream_url(self) -> str:
        """The address another proxy's backend `node` takes."""
        return f"unix:{self.config.socket}" if self.config.socket else self.base

    def new_client(self, secret: str | None = TOKEN) -> httpx.Client:
        transport = httpx.HTTPTransport(uds=self.config.socket) if self.config.socket else None
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        return httpx.Client(base_url=self.base, headers=headers, transport=transport, timeout=30)

    def wait_listening(self) -> None:
        self._wait_for(self._accepts)

    def wait_ready(self) -> None:
        self._wait_for(lambda: self._accepts() and self.client.get("/ready").status_code == 200)

    def _accepts(self) -> bool:
        # a plain socket: httpx leaves one open behind every refused connection
        family, address = (
            (socket.AF_UNIX, self.config.socket)
            if self.config.socket
            else (socket.AF_INET, ("127.0.0.1", self.config.port))
        )
        with socket.socket(family) as probe:
            return probe.connect_ex(address) == 0

    def _wait_for(self, check: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the server ended with {self.process.returncode}:\n{self.log()}")
            if check():
                return
            time.sleep(0.02)
        raise AssertionError(f"the server was not ready in {START_LIMIT_S} s:\n{self.log()}")

    def log(self) -> str:
        return self.log_file.read_text()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/internal/status").json()
        return found

    def stop(self) -> int:
        """End it through its lifeline; the exit code."""
        self.client.close()
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            code = self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._log.close()
        return code


@contextmanager
def short_dir() -> Iterator[Path]:
    """A folder whose path is short enough for a Unix socket, whatever pytest calls its own."""
    with tempfile.TemporaryDirectory(prefix="llmh-", dir="/tmp") as folder:
        yield Path(folder)


@contextmanager
def proxy(
    folder: Path,
    backend: BackendConfig = REHEARSAL,
    *,
    name: str = "proxy",
    cache: CacheConfig = NO_CACHE,
    timing: Timing | None = None,
    wait: str = "ready",
    **more: Any,
) -> Iterator[ProxyServer]:
    """A server on a Unix socket in `folder`."""
    config = ServerConfig(
        name=name,
        token=more.pop("token", TOKEN),
        backend=backend,
        cache=cache,
        timing=timing or Timing(),
        socket=None if "port" in more else str(folder / f"{name}-{os.getpid()}.sock"),
        lifeline=True,
        **more,
    )
    server = ProxyServer(config, folder, secret=config.token)
    try:
        server.wait_ready() if wait == "ready" else server.wait_listening()
        yield server
    finally:
        server.stop()


def gateway_of(node: ProxyServer, folder: Path, **more: Any) -> Any:
    """A gateway in front of a node, as on the operator's machine."""
    backend = BackendConfig("node", url=node.upstream_url, token=node.config.token, node_id="n1")
    return proxy(folder, backend, name="gateway", cache=more.pop("cache", CacheConfig()), **more)
