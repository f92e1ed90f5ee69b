"""The supervisor's side of the control socket: bind, let only our own user in, answer."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmhost.core.errors import LlmhostError
from llmhost.supervisor.logfile import EventLog
from llmhost.supervisor.peer import peer_uid
from llmhost.supervisor.protocol import Connection, ProtocolError

MAX_CLIENTS = 64
HEAL_S = 1.0


def _nothing() -> None:
    """Most replies have no consequence."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What to answer, the descriptors to pass along, what to do once it is sent, and what when it cannot be."""

    message: dict[str, Any]
    descriptors: list[int] = field(default_factory=list)
    then: Callable[[], None] = _nothing
    undo: Callable[[], None] = _nothing


Handler = Callable[[dict[str, Any]], Reply]


class ControlServer:
    """Serves `handle` on a 0600 Unix socket. The lock must be held: an old file at `path` is removed without asking."""

    def __init__(self, path: Path, handle: Handler, events: EventLog) -> None:
        self._path = path
        self._handle = handle
        self._events = events
        self._listener = _bind(path)
        self._places = threading.BoundedSemaphore(MAX_CLIENTS)
        self._closed = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._accept_all, name="control", daemon=True).start()

    def unlink(self) -> None:
        """Nobody can connect from now on; open connections stay."""
        self._closed.set()
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _accept_all(self) -> None:
        while True:
            self._listener.settimeout(HEAL_S)
            try:
                connected, _address = self._listener.accept()
            except TimeoutError:
                self._heal()
                continue
            except OSError as error:  # out of descriptors: wait for some to come back
                self._events.write("control_accept_failed", reason=error.strerror)
                threading.Event().wait(HEAL_S)
                continue
            self._admit(connected)

    def _admit(self, connected: socket.socket) -> None:
        # No time-out: `up` keeps its connection while a model is pulled, which takes as long as it takes.
        connected.settimeout(None)
        if _is_stranger(connected) or not self._places.acquire(blocking=False):
            self._events.write("control_refused")
            connected.close()
            return
        threading.Thread(target=self._serve, args=(Connection(connected),), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        try:
            while (received := connection.receive()) is not None:
                self._send(connection, self._answer(received[0]))
        except (OSError, ProtocolError) as error:
            self._events.write("control_connection_ended", reason=str(error))
        finally:
            connection.close()
            self._places.release()

    def _send(self, connection: Connection, reply: Reply) -> None:
        try:
            connection.send(reply.message, reply.descriptors)
        except OSError:
            reply.undo()
            raise
        reply.then()

    def _answer(self, message: dict[str, Any]) -> Reply:
        try:
            return self._handle(message)
        except LlmhostError as error:
            return Reply({"ok": False, "error": error.as_dict()})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            # Only the kind of error: its text may quote a secret of the request.
            failure = LlmhostError(
                f"the supervisor did not understand the request ({type(error).__name__}).", code="bad_request"
            )
            return Reply({"ok": False, "error": failure.as_dict()})

    def _heal(self) -> None:
        """Bind again when somebody removed the socket file (systemd empties the runtime folder at logout)."""
        if self._closed.is_set() or self._path.exists():
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            healed = _bind(self._path)
            self._listener, old = healed, self._listener
            old.close()
            self._events.write("control_socket_bound_again")


def _bind(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        # The folder is 0700 already; the mask closes the moment between bind and chmod. No other thread makes files yet.
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(MAX_CLIENTS)
    except OSError:
        listener.close()
        raise
    return listener


def _is_stranger(connected: socket.socket) -> bool:
    try:
        return peer_uid(connected) != os.getuid()
    except OSError:
        return True
