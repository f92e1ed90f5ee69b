"""The processes that are measured: the stub upstream, the proxy in front of it, and what the kernel says they cost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from llmhost.core.server_config import BackendConfig, CacheConfig, ServerConfig

TOKEN = "token-of-the-benchmark"
TICKS = os.sysconf("SC_CLK_TCK")
START_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """A process that listens on `port`. `started_s`: from its start until it accepted a connection."""

    pid: int
    port: int
    started_s: float = 0.0

    def cpu_s(self) -> float:
        """Processor time used so far, user and system, in steps of 10 ms."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def rss_mb(self) -> float:
        """Resident memory now."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


@contextmanager
def stub() -> Iterator[Server]:
    """The upstream."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.stub"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield Server(process.pid, int(process.stdout.readline()))
    finally:
        _end(process)


@contextmanager
def proxy(upstream: BackendConfig, *, cached: bool = False) -> Iterator[Server]:
    """`python -m llmhost.proxy` on a free port, with a memory cache or with none."""
    port = _free_port()
    config = ServerConfig(
        name="bench",
        token=TOKEN,
        backend=upstream,
        cache=CacheConfig(enabled=cached),
        port=port,
        lifeline=True,
        log_level="warning",
    )
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "llmhost.proxy"], stdin=subprocess.PIPE)
    try:
        assert process.stdin is not None
        process.stdin.write(config.to_json().encode() + b"\n")
        process.stdin.flush()
        _wait_until_accepting(process, port, began)
        yield Server(process.pid, port, time.perf_counter() - began)
    finally:
        _end(process)


def ollama(upstream: Server, parallel: int = 1) -> BackendConfig:
    """`parallel` requests at once, as many as the upstream is said to take: 1 is Ollama's default."""
    return BackendConfig(
        "ollama", url=f"http://127.0.0.1:{upstream.port}", model="stub:latest", context=65_536, parallel=parallel
    )


def node(upstream: Server) -> BackendConfig:
    return BackendConfig("node", url=f"http://127.0.0.1:{upstream.port}", token=TOKEN, node_id="n1")


def seconds_of(argv: list[str]) -> float:
    """How long a command runs. Raises CalledProcessError."""
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.perf_counter() - began


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_accepting(process: subprocess.Popen[bytes], port: int, began: float) -> None:
    while time.perf_counter() - began < START_LIMIT_S:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            raise RuntimeError(f"the proxy ended with {process.returncode}")
        time.sleep(0.002)
    raise RuntimeError(f"the proxy did not accept within {START_LIMIT_S} s")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Both servers leave when their standard input ends."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
