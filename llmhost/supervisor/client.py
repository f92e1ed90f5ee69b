"""The clients' side of the control socket."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import llmhost
from llmhost.core.errors import LlmhostError
from llmhost.supervisor.peer import peer_pid, peer_uid
from llmhost.supervisor.protocol import Connection, ProtocolError
from llmhost.supervisor.spec import ChildSpec

ANSWER_S = 2.0


class SupervisorSilent(LlmhostError):
    """It is connected but does not answer in time: stopped by a debugger or by the system, or beyond hope. `pid` may be 0."""

    default_code = "supervisor_silent"

    def __init__(self, pid: int) -> None:
        super().__init__(
            f"the llmhost supervisor (pid {pid or 'unknown'}) does not answer.",
            hint="Stop it, whatever it does: llmhost down",
        )
        self.pid = pid


class SupervisorEnded(LlmhostError):
    """It ended while it was asked."""

    default_code = "supervisor_ended"

    def __init__(self) -> None:
        super().__init__("the llmhost supervisor ended meanwhile.", hint="llmhost status")


class SupervisorClient:
    """A connection to a running supervisor. `pid` is the kernel's word, not a file's."""

    def __init__(self, connected: socket.socket) -> None:
        self._connection = Connection(connected)
        self.pid = _pid(connected)

    def ask(self, operation: str, *, timeout_s: float = ANSWER_S, **fields: Any) -> dict[str, Any]:
        """The reply. Raises SupervisorSilent, SupervisorEnded, or LlmhostError with the supervisor's own code, message and hint."""
        return self._exchange({"op": operation, "version": llmhost.__version__, **fields}, timeout_s)[0]

    def wanted(self) -> list[ChildSpec]:
        """What the supervisor runs, or tries to. Raises as `ask` does."""
        return [ChildSpec.from_dict(one) for one in self.ask("wanted")["children"]]

    def handover(self, grace_s: dict[str, float]) -> list[int]:
        """Ask it to leave and get its lock and its listening sockets, as descriptors (the lock's first)."""
        message = {"op": "handover", "version": llmhost.__version__, "grace_s": grace_s}
        return self._exchange(message, ANSWER_S)[1]

    def wait_end(self, timeout_s: float) -> bool:
        """Whether the supervisor ended within the time."""
        deadline = time.monotonic() + timeout_s
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._connection.socket.settimeout(left)
                if self._connection.receive() is None:
                    return True
        except TimeoutError:
            return False
        except (OSError, ProtocolError):
            return True
        return False

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> SupervisorClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _exchange(self, message: dict[str, Any], timeout_s: float) -> tuple[dict[str, Any], list[int]]:
        self._connection.socket.settimeout(timeout_s)
        try:
            self._connection.send(message)
            received = self._connection.receive()
        except TimeoutError as error:
            raise SupervisorSilent(self.pid) from error
        except (OSError, ProtocolError) as error:
            raise SupervisorEnded from error
        if received is None:
            raise SupervisorEnded
        reply, descriptors = received
        if not reply.get("ok"):
            raise _failure(reply)
        return reply, descriptors


def connect(path: Path, timeout_s: float = ANSWER_S) -> SupervisorClient | None:
    """A client, or None when nobody listens. Raises LlmhostError when the socket is somebody else's or may not be used."""
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connected.settimeout(timeout_s)
    try:
        connected.connect(str(path))
        uid = peer_uid(connected)
    except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
        connected.close()
        return None
    except TimeoutError:
        connected.close()
        raise SupervisorSilent(0) from None
    except OSError as error:
        connected.close()
        raise _unusable(path, error.strerror or str(error)) from error
    if uid != os.getuid():
        connected.close()
        raise _unusable(path, f"it is served by another user (uid {uid})")
    return SupervisorClient(connected)


def _pid(connected: socket.socket) -> int:
    try:
        return peer_pid(connected)
    except OSError:
        return 0


def _failure(reply: dict[str, Any]) -> LlmhostError:
    error = reply.get("error") or {}
    return LlmhostError(str(error.get("message")), hint=str(error.get("hint") or ""), code=error.get("code"))


def _unusable(path: Path, why: str) -> LlmhostError:
    hint = "Set XDG_RUNTIME_DIR to a folder of your own."
    return LlmhostError(f"cannot use the control socket {path}: {why}.", hint=hint, code="state_unsafe")
