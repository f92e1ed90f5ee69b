"""The control socket's language: one JSON object a line, a request and its reply in turn.

Requests have `op` and `version` (the client's). Replies have `ok`; a failed one has `error` {code, message, hint}.

    hello     → {version, pid, started_at, stopping}
    status    → the same and {children, gpu}, where it owns links {links} too
    wanted    → {children: [ChildSpec]}, with the ports that are bound, and {links: [LinkSpec]}; it carries their secrets
    apply     {children: [ChildSpec], links: [LinkSpec], keep: bool} → {started, replaced, kept, told, removed, ports}, {links: the same}.
              What is not there (`children` or `links`) stays as it is; `told` are kept children whose live part is another
    kick      {name: one link, or absent: all} → {kicked: [names]}; tries at once, also what had failed for good
    refresh   {name: one link, or absent: all} → {refreshed: [names]}; another connection for each, no stream is cut
    stop      {grace_s: {NAME: seconds}} → {pids}; the connection ends when the supervisor has
    handover  {grace_s: {NAME: seconds}} → {pids}, with the lock's and the listening sockets' descriptors (SCM_RIGHTS); then as stop

`hello`, `stop` and `handover` may never change their meaning: they are how a version that does not know us replaces us.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from typing import Any

MAX_LINE = 4 * 1024 * 1024
MAX_FDS = 8
_CHUNK = 65_536


class ProtocolError(Exception):
    """What came is no line of ours. Carries no content, because a line may hold secrets."""


@dataclass(slots=True)
class Connection:
    """A connected Unix socket that carries lines. Raises OSError (also TimeoutError) as sockets do."""

    socket: socket.socket
    _buffer: bytearray = field(default_factory=bytearray)

    def send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        if descriptors:
            sent = socket.send_fds(self.socket, [line], descriptors)
            line = line[sent:]
        self.socket.sendall(line)

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """The next object and the descriptors that came with it; None at the end. Raises ProtocolError."""
        descriptors: list[int] = []
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE:
                raise ProtocolError("the line is too long")
            data, received, _flags, _address = socket.recv_fds(self.socket, _CHUNK, MAX_FDS)
            descriptors += received
            if not data:
                return None
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return _parse(line), descriptors

    def close(self) -> None:
        self.socket.close()


def _parse(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        raise ProtocolError("the line is not JSON") from None
    if not isinstance(message, dict):
        raise ProtocolError("the line is not a JSON object")
    return message
