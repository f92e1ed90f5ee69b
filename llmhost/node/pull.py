"""Fetches a model with the node's Ollama, and does not give up while bytes still come in.

Ollama keeps what it has and goes on from there, so a connection that stalls is simply opened again.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from llmhost.core.errors import LlmhostError, Unavailable
from llmhost.core.model_room import FreeBytes, refuse_beyond
from llmhost.node.ollama_models import is_there

# While it fetches, Ollama sends many lines a second whether or not bytes arrive.
STALL_S = 180.0
# It says nothing while it checks the digest of a file of 19 GB, which a slow disk takes long to read.
VERIFY_S = 1_800.0
TRIES = 5
SAY_EVERY_S = 0.2
_UNKNOWN = ("file does not exist", "not found", "manifest unknown", "invalid model name", "invalid model path")
_FULL = ("no space left", "disk quota")
_REFUSED = ("unauthorized", "access denied", "forbidden")
_NO_NETWORK = (
    "no such host",
    "lookup ",
    "connection refused",
    "network is unreachable",
    "i/o timeout",
    "no route to host",
)

Say = Callable[[dict[str, Any]], None]


def _unknown() -> int | None:
    return None


class _Broken(Exception):
    """This try ended early; the text says how."""


@dataclass(slots=True)
class Puller:
    """One model from one Ollama server (`address` is host:port). `say` gets `{status, completed, total}` in bytes over all files.

    `free` tells what the disk of its models has left: a file that cannot fit is refused before it is fetched.
    """

    address: str
    model: str
    say: Say
    stall_s: float = STALL_S
    pause_s: float = 1.0
    free: FreeBytes = _unknown
    _files: dict[str, tuple[int, int]] = field(default_factory=dict)
    _said_at: float = 0.0
    _said: str = ""

    def run(self) -> bool:
        """Whether there was anything to fetch. Raises NothingSuitable (`model_too_big`), LlmhostError (`model_unknown`, `disk_full`,

        `pull_failed`), Unavailable.
        """
        if is_there(self.address, self.model):
            return False
        failures = 0
        while True:
            before = self._done()
            try:
                self._once()
                return True
            except (_Broken, OSError, http.client.HTTPException) as error:
                failures = 1 if self._done() > before else failures + 1
                if failures >= TRIES:
                    raise self._failed(str(error) or type(error).__name__) from error
            time.sleep(self.pause_s * 2 ** (failures - 1))

    def _once(self) -> None:
        connection = http.client.HTTPConnection(self.address, timeout=self.stall_s)
        try:
            body = json.dumps({"model": self.model, "insecure": _is_local(self.model)})
            connection.request("POST", "/api/pull", body, {"Content-Type": "application/json"})
            with connection.getresponse() as response:
                self._follow(connection, response)
        finally:
            connection.close()

    def _follow(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        moved_at, status = time.monotonic(), ""
        for line in _lines(response):
            if "error" in line:
                self._raise(str(line["error"]))
            before = (status, self._done())
            status = str(line.get("status") or "")
            if status == "success":
                return
            self._add(line)
            if connection.sock is not None:
                connection.sock.settimeout(VERIFY_S if status.startswith("verifying") else self.stall_s)
            if before != (status, self._done()):
                moved_at = time.monotonic()
            elif time.monotonic() - moved_at > self.stall_s:
                raise _Broken(f"nothing arrived for {self.stall_s:.0f} s")
            self._tell(status)
        raise _Broken("it ended before it was complete")

    def _add(self, line: dict[str, Any]) -> None:
        if "digest" not in line:
            return
        known, completed, total = (
            line["digest"] in self._files,
            int(line.get("completed") or 0),
            int(line.get("total") or 0),
        )
        if not known and total > completed:
            refuse_beyond(self.model, total - completed, self.free())
        self._files[line["digest"]] = (completed, total)

    def _done(self) -> int:
        return sum(completed for completed, _ in self._files.values())

    def _tell(self, status: str) -> None:
        word = "pulling" if status.startswith("pulling") and "manifest" not in status else status
        now = time.monotonic()
        if word == self._said and now - self._said_at < SAY_EVERY_S:
            return
        self._said, self._said_at = word, now
        total = sum(size for _, size in self._files.values())
        self.say({"status": word, "completed": self._done(), "total": total or None})

    def _raise(self, text: str) -> None:
        low = text.lower()
        if any(sign in low for sign in _UNKNOWN):
            hint = "Check its name and tag in Ollama's library."
            raise LlmhostError(f"there is no model {self.model!r} to pull ({text}).", hint=hint, code="model_unknown")
        if any(sign in low for sign in _FULL):
            hint = "Free space on the node, or choose a smaller model, and try again: what was fetched is kept."
            raise LlmhostError(f"the node's disk is full: {self.model!r} does not fit.", hint=hint, code="disk_full")
        if any(sign in low for sign in _REFUSED):
            raise self._failed(text)
        raise _Broken(text)

    def _failed(self, why: str) -> LlmhostError:
        if any(sign in why.lower() for sign in _NO_NETWORK):
            return Unavailable(
                f"the node cannot reach the registry of {self.model!r}: {why}.",
                hint="The pull needs the node's own network. Check it: llmhost ssh",
                code="node_offline",
            )
        return LlmhostError(
            f"the node's Ollama could not pull {self.model!r}: {why}.",
            hint="Try again: what was fetched is kept.",
            code="pull_failed",
        )


def _lines(response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    """The objects of a stream of lines. A status other than 200 is one object too, with its `error`."""
    while raw := response.readline():
        try:
            line = json.loads(raw)
        except ValueError:
            raise _Broken("a line was cut off") from None
        if isinstance(line, dict):
            yield line


def _is_local(model: str) -> bool:
    """Whether the name says a registry on the node itself (HOST:PORT/…), which needs no TLS."""
    host, slash, _rest = model.removeprefix("http://").partition("/")
    name = host.rpartition(":")[0] or host
    if not slash or name == "localhost":
        return bool(slash)
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
