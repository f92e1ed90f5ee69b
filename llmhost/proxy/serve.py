"""Runs one server process: listening, logging, the lifeline, the end."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn

from llmhost.backends.factory import open_backend
from llmhost.cache.exact import ExactCache
from llmhost.cache.factory import open_store
from llmhost.core.json_log import set_up_logging
from llmhost.core.server_config import ServerConfig
from llmhost.proxy.app import build_app
from llmhost.proxy.corked import CorkedProtocol
from llmhost.proxy.metrics import Metrics
from llmhost.proxy.pipeline import Pipeline
from llmhost.proxy.status import ServerStatus

log = logging.getLogger("llmhost.proxy")

# Longer than clients keep a pooled connection, so that we are never the side that closes one just as a request is put on it.
KEEP_ALIVE_S = 900
# Whoever stops this process bounds the wait (the supervisor: 5 s for `down`, 60 s for an upgrade), so that answers under way can end.
GRACE_S = 60
SETTLE_S = 0.2
STANDARD_INPUT = 0
INTERRUPTED = 130  # as the contract has it for every command
BACKLOG = 2048
HUNG_UP = "ASGI callable returned without completing response."


def run(config: ServerConfig) -> int:
    """Serve until told to stop; the exit code. Raises OSError when it cannot listen."""
    set_up_logging(as_json=config.log_json, level=config.log_level)
    # Hanging up in the middle of a stream is how a broken answer is told (messages_route); uvicorn reports each as an error of ours.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.getMessage() != HUNG_UP)
    listeners = [listen(config)]
    with _removed_at_the_end(config), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        if config.also_port is not None:
            listeners.append(_tcp_socket("127.0.0.1", config.also_port))
        return runner.run(_serve(config, listeners))


def listen(config: ServerConfig) -> socket.socket:
    """The listening socket: inherited, a Unix socket (0600), or TCP. Raises OSError, for example when the port is in use."""
    if config.fd is not None:
        listener = socket.socket(fileno=config.fd)
    elif config.socket is not None:
        listener = _unix_socket(Path(config.socket))
    else:
        listener = _tcp_socket(config.host, config.port or 0)
    listener.setblocking(False)
    return listener


def _tcp_socket(host: str, port: int) -> socket.socket:
    listener = socket.create_server((host, port), backlog=BACKLOG, reuse_port=False)
    listener.setblocking(False)
    return listener


def _unix_socket(path: Path) -> socket.socket:
    _make_way(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener


def _make_way(path: Path) -> None:
    """Remove a socket nobody listens on any more. Raises OSError when something else is there, or somebody answers."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, f"{path} is there and is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, f"another server listens on {path}")
    path.unlink()


@contextmanager
def _removed_at_the_end(config: ServerConfig) -> Iterator[None]:
    """Remove our own socket file, and no other that has taken its place."""
    path = Path(config.socket) if config.socket is not None else None
    made = path.lstat().st_ino if path else None
    try:
        yield
    finally:
        with suppress(FileNotFoundError):
            if path and path.lstat().st_ino == made:
                path.unlink()


async def _serve(config: ServerConfig, listeners: list[socket.socket]) -> int:
    also_port = listeners[1].getsockname()[1] if len(listeners) > 1 else None
    server = GentleServer(_uvicorn_config(config, also_port))
    if config.lifeline:
        loop = asyncio.get_running_loop()
        _watch_lifeline(lambda: loop.call_soon_threadsafe(_stop, server))
    also = {} if also_port is None else {"also_port": also_port}
    log.info("listening", extra={"address": _address(config, listeners[0]), "placement": config.name, **also})
    # what was imported lives as long as the process: keep the collector from walking through it again and again
    gc.collect()
    gc.freeze()
    # Parsing one request of 80 KB makes thousands of objects, none of them cyclic: the default of 700 would look through them in vain.
    gc.set_threshold(50_000, 20, 50)
    await server.serve(sockets=listeners)
    if server.interrupted:
        return INTERRUPTED
    return 0 if server.started else 1


class GentleServer(uvicorn.Server):
    """uvicorn with a gentler end.

    It closes connections it has accepted but not read from, whose requests would be reset: so it stops accepting first. And it raises
    the signal again when it is done, which would end the process before anything is tidied up.
    """

    interrupted = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        yield

    def _on_signal(self, number: signal.Signals) -> None:
        self.interrupted = number is signal.SIGINT
        self.handle_exit(number, None)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await asyncio.sleep(SETTLE_S)
        await super().shutdown(sockets)


def _uvicorn_config(config: ServerConfig, also_port: int | None) -> uvicorn.Config:
    backend = open_backend(config.backend, config.timing, config.nodes)
    cache = None
    if config.cache.enabled:
        cache = ExactCache(open_store(config.cache, config.token.encode()), config.cache.ttl_s)
    pipeline = Pipeline(config, backend, cache, Metrics(backend.kind))
    app = build_app(pipeline, ServerStatus(config, pipeline, also_port), config.token, config.allowed_hosts)
    return uvicorn.Config(
        app,
        loop="none",
        http=CorkedProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
        backlog=BACKLOG,
    )


def _watch_lifeline(stop: Callable[[], object]) -> None:
    """Standard input ends when whoever started this process is gone, however it went."""

    def wait() -> None:
        # not sys.stdin: a thread that holds its lock makes the interpreter abort at the end
        while os.read(STANDARD_INPUT, 4096):
            pass
        stop()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def _stop(server: uvicorn.Server) -> None:
    server.should_exit = True


def _address(config: ServerConfig, listener: socket.socket) -> str:
    if config.socket is not None:
        return f"unix:{config.socket}"
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # not built for every platform
        return asyncio.new_event_loop
    return uvloop.new_event_loop
