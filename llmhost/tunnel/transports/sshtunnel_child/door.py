"""The local Unix socket that the link's streams come in by."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from llmhost.tunnel.transports.sshtunnel_child.last_words import SOCKET_FAILED, Ended

_BACKLOG = 512  # a full one refuses non-blocking clients at once
_RETRY_S = 0.05
_OWNER_ONLY = 0o177


class Door:
    """Listens on `path` (0600) from `open` to `close`; `on_client` gets every connection."""

    def __init__(self, path: str, on_client: Callable[[socket.socket], None]) -> None:
        self._path = Path(path)
        self._on_client = on_client
        self._closed = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def open(self) -> None:
        """Take the path, from a stale socket too. Raises Ended (`socket_unusable`)."""
        mask = os.umask(_OWNER_ONLY)
        try:
            self._path.unlink(missing_ok=True)
            self._listener.bind(str(self._path))
            self._listener.listen(_BACKLOG)
        except OSError as error:
            raise Ended(SOCKET_FAILED, f"{self._path}: {error.strerror or error}") from error
        finally:
            os.umask(mask)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more. The path goes too: what connects now is refused at once."""
        self._closed = True
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._listener.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                time.sleep(_RETRY_S)  # no descriptor to be had, or closed
            else:
                self._on_client(client)
