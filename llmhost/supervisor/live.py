"""What a running child is told anew: the part of its configuration that changes without a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from llmhost.supervisor.loopback import request
from llmhost.supervisor.spec import ChildSpec, Live

TIMEOUT_S = 2.0
TAKEN = 200


class LivePart:
    """Knows what the live part is and what the process was told of it. Safe from any thread; `tell` is for one thread only.

    `amend` makes of the specified body what is really told (a node may be in trouble that only we know of).
    """

    def __init__(self, spec: ChildSpec, amend: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self._live = spec.live
        self._token = spec.probe.token if spec.probe else None
        self._amend = amend
        self._lock = threading.Lock()
        self._told: dict[str, Any] | None = None
        self._process = 0

    def set(self, live: Live | None) -> bool:
        """Whether it is another one than before."""
        before, self._live = self._live, live
        return before != live

    def begin(self) -> dict[str, Any]:
        """A new process is started: what is merged into its configuration."""
        body = self._body()
        with self._lock:
            self._process += 1
            self._told = body
        return body

    def is_told(self) -> bool:
        with self._lock:
            return self._told == self._body()

    def tell(self, address: str) -> bool:
        """Send what the process does not know yet, by PUT to `unix:/path` or `host:port`; whether it knows everything now."""
        body, live = self._body(), self._live
        with self._lock:
            process, told = self._process, self._told
        if live is None or body == told:
            return True
        try:
            answer = request(address, "PUT", live.path, token=self._token, body=body, timeout_s=TIMEOUT_S)
        except OSError:
            return False
        with self._lock:
            if answer.status == TAKEN and process == self._process:  # else it was another process that took it
                self._told = body
        return answer.status == TAKEN

    def _body(self) -> dict[str, Any]:
        return self._amend(self._live.body) if self._live else {}
