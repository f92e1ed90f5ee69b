"""The way to a machine's sshd: a TCP relay that can be broken, as a host's router or the marketplace's proxy can be."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

MODES = ("ok", "refuse", "hang", "drop", "drop_after")
CHUNK = 65_536


class Entrance:
    """Listens at `host:port` and passes on to `target`.

    Modes: `ok`; `refuse` (nobody listens; connections that are there stay); `hang` (connections are accepted and say nothing, those
    that are there fall silent); `drop` (all connections end now, new ones as soon as they come); `drop_after` (all connections end now,
    every new one `seconds` after it came).
    """

    def __init__(self, target: tuple[str, int], host: str = "127.0.0.1") -> None:
        self.target, self.host = target, host
        self._lock = threading.Lock()
        self._flowing = threading.Event()
        self._flowing.set()
        self._mode, self._seconds = "ok", 0.0
        self._open: set[socket.socket] = set()
        self._closed = False
        self._listener = _bound(host, 0)
        self.port = int(self._listener.getsockname()[1])
        self._listen()

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    def set(self, mode: str, seconds: float = 0.0) -> None:
        if mode not in MODES:
            raise ValueError(f"no such mode: {mode}")
        was, self._mode, self._seconds = self._mode, mode, seconds
        if mode == "refuse" and was != "refuse":
            self._rebind()
        elif was == "refuse" and mode != "refuse":
            self._listen()
        if mode == "hang":
            self._flowing.clear()
        else:
            self._flowing.set()
        if mode in ("drop", "drop_after"):
            self.drop()

    def drop(self) -> None:
        """End every connection."""
        with self._lock:
            going, self._open = self._open, set()
        for each in going:
            _end(each)

    def close(self) -> None:
        self._closed = True
        self._flowing.set()
        _end(self._listener)
        self.drop()

    def _rebind(self) -> None:
        """Bound and not listening: whoever connects is refused, and nobody else gets the port."""
        _end(self._listener)
        self._listener = _bound(self.host, self.port)

    def _listen(self) -> None:
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), name="entrance", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="entrance-in", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        if self._mode == "drop" or self._closed:
            _end(client)
            return
        if self._mode == "drop_after":
            _later(self._seconds, client)
        self._flowing.wait()
        try:
            server = socket.create_connection(self.target, 5)
        except OSError:
            _end(client)
            return
        server.settimeout(None)
        with self._lock:
            self._open.add(server)
        threading.Thread(target=self._pump, args=(server, client), name="entrance-out", daemon=True).start()
        self._pump(client, server)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            for each in (source, sink):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := source.recv(CHUNK):
                self._flowing.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
            return
        _end(source)
        _end(sink)


def _bound(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def _later(seconds: float, connection: socket.socket) -> None:
    def end() -> None:
        time.sleep(seconds)
        _end(connection)

    threading.Thread(target=end, name="entrance-end", daemon=True).start()
